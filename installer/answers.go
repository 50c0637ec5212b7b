package installer

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"syscall"

	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Answers is the answers file (interface §3). Every key is optional; what is
// absent leaves the settings as they are.
type Answers struct {
	ServiceUser *string                   `yaml:"service_user"`
	ClientGroup *string                   `yaml:"client_group"`
	Clients     []string                  `yaml:"clients"`
	Region      *string                   `yaml:"region"`
	Channels    map[string]AnswersChannel `yaml:"channels"`
	Allow       AnswersAllow              `yaml:"allow"`
	Start       *bool                     `yaml:"start"`
	OpenClaw    *bool                     `yaml:"openclaw"`
}

// AnswersChannel is one channel of the answers file.
type AnswersChannel struct {
	Enabled   *bool   `yaml:"enabled"`
	Tool      *string `yaml:"tool"`
	SHA256    *string `yaml:"sha256"`
	Account   *string `yaml:"account"`
	TokenFile *string `yaml:"token_file"`
}

// AnswersAllow are the allow lists of the answers file, by channel.
type AnswersAllow struct {
	Outbound map[string][]string `yaml:"outbound"`
	Inbound  map[string][]string `yaml:"inbound"`
}

// ReadAnswers reads an answers file. It decides what root will do, so root
// alone may have written it: a regular file, no link, root's, nobody else's to
// write. Whoever is not root can only plan, and may use a file of his own.
func ReadAnswers(name string) (Answers, error) {
	var a Answers
	h, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if errors.Is(err, syscall.ELOOP) {
		return a, fmt.Errorf("answers %s: a symbolic link", name)
	}
	if err != nil {
		return a, fmt.Errorf("answers: %w", err)
	}
	defer h.Close()
	info, err := h.Stat()
	if err != nil {
		return a, fmt.Errorf("answers: %w", err)
	}
	if !info.Mode().IsRegular() {
		return a, fmt.Errorf("answers %s: not a regular file", name)
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok || st.Uid != 0 && int(st.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
		return a, plan.WithHint(fmt.Errorf("answers %s: others than root can write it (uid %d, mode %04o)", name, st.Uid, info.Mode().Perm()),
			fmt.Sprintf("chown root %s && chmod go-w %s", name, name))
	}
	data, err := io.ReadAll(io.LimitReader(h, config.MaxSize+1))
	if err != nil {
		return a, fmt.Errorf("answers: %w", err)
	}
	return a, ParseAnswers(name, data, &a)
}

// ParseAnswers reads the text of an answers file. Every error begins with
// file and line.
func ParseAnswers(name string, data []byte, into *Answers) error {
	return config.DecodeStrict(name, data, into)
}

// Merge puts the answers into the settings.
func (s *Settings) Merge(a Answers) {
	set(&s.ServiceUser, a.ServiceUser)
	set(&s.ClientGroup, a.ClientGroup)
	set(&s.Region, a.Region)
	set(&s.Start, a.Start)
	set(&s.OpenClaw, a.OpenClaw)
	if a.Clients != nil {
		s.Clients = slices.Clone(a.Clients)
	}
	for _, name := range slices.Sorted(maps.Keys(a.Channels)) {
		from := a.Channels[name]
		c := s.Channels[name]
		set(&c.Enabled, from.Enabled)
		set(&c.Account, from.Account)
		set(&c.TokenFile, from.TokenFile)
		if from.Tool != nil && *from.Tool != c.Tool {
			c.Tool = *from.Tool
			c.SHA256 = "" // it was the other file's
		}
		set(&c.SHA256, from.SHA256)
		if s.Channels == nil {
			s.Channels = make(map[string]Channel)
		}
		s.Channels[name] = c
	}
	merge(&s.Outbound, a.Allow.Outbound)
	merge(&s.Inbound, a.Allow.Inbound)
}

func set[T any](to *T, from *T) {
	if from != nil {
		*to = *from
	}
}

func merge(to *map[string][]string, from map[string][]string) {
	for name, list := range from {
		if *to == nil {
			*to = make(map[string][]string)
		}
		(*to)[name] = append([]string{}, list...)
	}
}

// CheckClient reports why an account cannot be a client.
func CheckClient(u platform.User, acc platform.Accounts, serviceUser string) error {
	if u.Name == serviceUser {
		return fmt.Errorf("%s is the service user", u.Name)
	}
	return acc.Regular(u)
}

// missing reports whether an error says that a file is not there.
func missing(err error) bool { return errors.Is(err, fs.ErrNotExist) }

func bytesReader(b []byte) io.Reader { return bytes.NewReader(b) }

// CheckEntry says what is wrong with one entry of a channel's allow list.
func CheckEntry(channel, text string) error { return config.CheckEntry(channel, text) }
