package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// InstallFacts is share/install.json (interface §2): what an installation says
// about itself. It holds no secret and no list.
type InstallFacts struct {
	Version     string        `json:"version"`
	Prefix      string        `json:"prefix"`
	ServiceUser string        `json:"service_user"`
	ServiceUID  uint32        `json:"service_uid"`
	Socket      string        `json:"socket"`
	AdminSocket string        `json:"admin_socket"`
	Spool       string        `json:"spool"`
	Clients     []string      `json:"clients"`
	Files       []InstallFile `json:"files"`
}

// InstallFile is one file that the installer put there.
type InstallFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// maxFacts bounds the file; a real one has a few kilobytes.
const maxFacts = 1 << 20

// ReadInstallFacts reads the facts at path. The file must be regular, root's
// or the calling user's own (root's alone for root), and writable by its owner
// alone; service_uid and absolute sockets must be in it. Members that this
// version does not know are left out, so that programs of two versions can
// stand beside each other during an upgrade.
func ReadInstallFacts(path string) (*InstallFacts, error) {
	fail := func(err error) (*InstallFacts, error) {
		return nil, fmt.Errorf("installation facts %s: %w", path, err)
	}
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("installation facts: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return fail(err)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	switch {
	case !ok || !info.Mode().IsRegular():
		return fail(errors.New("not a regular file"))
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return fail(errors.New("neither root's nor this user's"))
	case info.Mode().Perm()&0o022 != 0:
		return fail(errors.New("others can write it"))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxFacts+1))
	if err != nil {
		return fail(err)
	}
	if len(text) > maxFacts {
		return fail(fmt.Errorf("longer than %d bytes", maxFacts))
	}
	facts := new(InstallFacts)
	must := struct {
		*InstallFacts
		ServiceUID *uint32 `json:"service_uid"` // 0 is not the same as nothing
	}{InstallFacts: facts}
	if err := json.Unmarshal(text, &must); err != nil {
		return fail(err)
	}
	switch {
	case must.ServiceUID == nil:
		return fail(errors.New("service_uid is missing"))
	case !filepath.IsAbs(facts.Socket) || !filepath.IsAbs(facts.AdminSocket):
		return fail(errors.New("socket and admin_socket must be absolute paths"))
	}
	facts.ServiceUID = *must.ServiceUID
	return facts, nil
}

// FactsPath returns where the facts of the installation stand to which the
// running program belongs: ../share/install.json beside its folder bin or
// libexec.
func FactsPath() (string, error) {
	exe, err := os.Executable()
	if err == nil {
		exe, err = filepath.EvalSymlinks(exe) // macOS tells the name that was called
	}
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return factsBeside(exe)
}

func factsBeside(exe string) (string, error) {
	dir := filepath.Dir(exe)
	if base := filepath.Base(dir); base != "bin" && base != "libexec" {
		return "", fmt.Errorf("%s is in no folder called bin or libexec", exe)
	}
	return filepath.Join(filepath.Dir(dir), "share", "install.json"), nil
}

// Discover finds the client socket and the uid that must be behind it, from
// the installation facts. For tests, CARAPACE_SOCKET and CARAPACE_SERVER_UID
// stand in for them, each for its own part; they are ignored for root and for
// a program whose real and effective ids differ. The error is an
// *UnreachableError.
func Discover() (ClientOptions, error) {
	env := os.Getenv
	if os.Getuid() == 0 || os.Geteuid() == 0 || os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		env = func(string) string { return "" }
	}
	return discover(env, FactsPath)
}

func discover(env func(string) string, path func() (string, error)) (ClientOptions, error) {
	o := ClientOptions{Socket: env("CARAPACE_SOCKET")}
	uid := env("CARAPACE_SERVER_UID")
	if uid != "" {
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return o, notInstalled(fmt.Errorf("CARAPACE_SERVER_UID is no uid: %s", shown(uid)))
		}
		o.ServerUID = uint32(n)
	}
	if o.Socket != "" && uid != "" {
		return o, nil
	}
	facts, err := readFacts(path)
	if err != nil {
		return o, err
	}
	if o.Socket == "" {
		o.Socket = facts.Socket
	}
	if uid == "" {
		o.ServerUID = facts.ServiceUID
	}
	return o, nil
}

// DiscoverAdmin finds the admin socket and the uid that must be behind it,
// from the installation facts alone. The error is an *UnreachableError.
func DiscoverAdmin() (ClientOptions, error) {
	facts, err := readFacts(FactsPath)
	if err != nil {
		return ClientOptions{}, err
	}
	return ClientOptions{Socket: facts.AdminSocket, ServerUID: facts.ServiceUID}, nil
}

func readFacts(path func() (string, error)) (*InstallFacts, error) {
	p, err := path()
	if err != nil {
		return nil, notInstalled(err)
	}
	facts, err := ReadInstallFacts(p)
	if err != nil {
		return nil, notInstalled(err)
	}
	return facts, nil
}

func notInstalled(err error) error {
	return &UnreachableError{Err: fmt.Errorf("%w: %w", ErrNotInstalled, err)}
}
