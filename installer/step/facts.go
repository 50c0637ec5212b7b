package step

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/carapace-gateway/carapace/installer/plan"
)

// Facts is share/install.json (interface §2): what every program of ours, and
// everybody else, may know about the installation. It is written last of the
// files, because it names their hashes and the uid of the service user.
type Facts struct {
	Path        string   `json:"path"`
	Version     string   `json:"version"`
	Prefix      string   `json:"prefix"`
	ServiceUser string   `json:"service_user"`
	Socket      string   `json:"socket"`
	AdminSocket string   `json:"admin_socket"`
	Spool       string   `json:"spool"`
	Clients     []string `json:"clients"`
	Files       []string `json:"files"`
	Purpose     string   `json:"-"`

	machine
	mem fileMemory
}

// Kind implements plan.Step.
func (*Facts) Kind() string { return "facts" }

// Key implements plan.Step.
func (f *Facts) Key() string { return f.Path }

// Title implements plan.Step.
func (f *Facts) Title() string { return "write " + f.Path }

// Detail implements plan.Describer.
func (f *Facts) Detail() string {
	return fmt.Sprintf("root:root 0644, the hashes of %d files", len(f.Files))
}

// Why implements plan.Describer.
func (f *Facts) Why() string { return f.Purpose }

// Memory implements plan.Rememberer.
func (f *Facts) Memory() any { return f.mem }

// Recall implements plan.Rememberer.
func (f *Facts) Recall(data json.RawMessage) error { return f.recallInto(data, &f.mem) }

// file is the step that writes these facts as they are now.
func (f *Facts) file(ctx context.Context) (*File, error) {
	type hashed struct {
		Path   string `json:"path"`
		SHA256 string `json:"sha256"`
	}
	facts := struct {
		Version     string   `json:"version"`
		Prefix      string   `json:"prefix"`
		ServiceUser string   `json:"service_user"`
		ServiceUID  uint32   `json:"service_uid"`
		Socket      string   `json:"socket"`
		AdminSocket string   `json:"admin_socket"`
		Spool       string   `json:"spool"`
		Clients     []string `json:"clients"`
		Files       []hashed `json:"files"`
	}{
		Version: f.Version, Prefix: f.Prefix, ServiceUser: f.ServiceUser,
		Socket: f.Socket, AdminSocket: f.AdminSocket, Spool: f.Spool,
		Clients: append([]string{}, f.Clients...), Files: []hashed{},
	}
	var err error
	if facts.ServiceUID, err = f.uid(ctx, f.ServiceUser); err != nil {
		return nil, err
	}
	for _, name := range f.Files {
		sum, err := f.files().Hash(name)
		if err != nil {
			return nil, err
		}
		facts.Files = append(facts.Files, hashed{Path: name, SHA256: sum})
	}
	text, err := json.MarshalIndent(facts, "", "  ")
	if err != nil {
		return nil, err
	}
	return &File{
		Path: f.Path, User: "root", Group: "root", Mode: 0o644, Content: string(text) + "\n",
		machine: f.machine, mem: f.mem,
	}, nil
}

// Plan implements plan.Step. What it will say is not known before the rest is
// installed, so whatever is there and not ours is in the way.
func (f *Facts) Plan(ctx context.Context) (plan.Change, error) {
	if err := f.parents(f.Path); err != nil {
		return "", err
	}
	info, err := f.files().Lstat(f.Path)
	switch {
	case gone(err), err == nil && f.recalled && info.IsRegular():
		return plan.Make, nil
	case err != nil:
		return "", err
	}
	return "", plan.WithHint(fmt.Errorf("%s exists and was not written by carapace-setup", f.Path), "move it away")
}

// Prepare implements plan.Preparer.
func (f *Facts) Prepare(ctx context.Context) error {
	file, err := f.file(ctx)
	if err != nil {
		return err
	}
	err = file.Prepare(ctx)
	f.mem = file.mem
	return err
}

// Apply implements plan.Step.
func (f *Facts) Apply(ctx context.Context) error {
	file, err := f.file(ctx)
	if err != nil {
		return err
	}
	return file.Apply(ctx)
}

// Verify implements plan.Step.
func (f *Facts) Verify(ctx context.Context) error {
	file, err := f.file(ctx)
	if err != nil {
		return err
	}
	return file.Verify(ctx)
}

// Revert implements plan.Step. The files it would name may be gone by now.
func (f *Facts) Revert(ctx context.Context) error {
	file := &File{Path: f.Path, User: "root", Group: "root", Mode: 0o644, machine: f.machine, mem: f.mem}
	return file.Revert(ctx)
}
