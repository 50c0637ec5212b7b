package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/carapace-gateway/carapace/installer"
	"github.com/carapace-gateway/carapace/installer/platform"
	"github.com/carapace-gateway/carapace/installer/prompt"
	"github.com/carapace-gateway/carapace/installer/step"
)

// ask fills in the settings with a person. What is there already is what a
// bare return means.
func (a *app) ask(ctx context.Context, m *machine, p prompt.Prompter, s *installer.Settings) error {
	fmt.Fprintf(a.stderr, "\nCarapace keeps the credentials of your messengers in an account of their own,\nout of reach of the agents that run as you. A few questions first; ? explains.\n\n")
	clients, err := p.Input("Whose agents are to use the gateway? (user names)",
		"the OS users that your agents run as: they may ask the gateway and read nothing of its own; never root",
		strings.Join(s.Clients, " "), func(text string) error {
			names := words(text)
			if len(names) == 0 {
				return errors.New("name at least one user")
			}
			for _, n := range names {
				u, err := m.sys.User(ctx, n)
				if errors.Is(err, platform.ErrNotFound) {
					return fmt.Errorf("there is no user %s", n)
				}
				if err != nil {
					return err
				}
				if err := installer.CheckClient(u, m.sys, s.ServiceUser); err != nil {
					return err
				}
			}
			return nil
		})
	if err != nil {
		return err
	}
	s.Clients = words(clients)
	if err := a.askChannels(m, p, s); err != nil {
		return err
	}
	if m.sys.Manager(ctx) == "" {
		ok, err := p.Confirm("No service manager runs here. Install without starting the gateway?",
			"in most containers nothing starts services; everything is installed, and you start the gateway by hand",
			true)
		if err != nil {
			return err
		}
		if !ok {
			return errors.New("nothing was changed: the gateway cannot be kept running here")
		}
		s.Start = false
		return nil
	}
	s.Start, err = p.Confirm("Start the gateway now and at every boot?",
		"no installs the service and leaves it off", true)
	return err
}

func (a *app) askChannels(m *machine, p prompt.Prompter, s *installer.Settings) error {
	channels := make(map[string]installer.Channel, len(s.Channels))
	for name, c := range s.Channels {
		channels[name] = c
	}
	for _, name := range installer.Channels() {
		c := channels[name]
		tool := installer.ToolOf(name)
		question := fmt.Sprintf("Enable the channel %s?", name)
		why := "the embedded messenger: it reaches nobody outside, and shows that everything works with no account anywhere"
		if tool != "" {
			why = fmt.Sprintf("messages go through the real %s, run by the gateway; a copy of it is put where only root can change it", tool)
		}
		on, err := p.Confirm(question, why, c.Enabled)
		if err != nil {
			return err
		}
		c.Enabled = on
		if on && tool != "" {
			if err := a.askTool(m, p, tool, &c); err != nil {
				return err
			}
			if err := askList(p, fmt.Sprintf("Who may be written to over %s? (commas between them)", name),
				"numbers with their country code, or addresses, such as +1 555 000 1111, *@family.example; nobody else can be reached; empty: nobody",
				name, &s.Outbound); err != nil {
				return err
			}
			if err := askList(p, fmt.Sprintf("Whose messages over %s may the agents see? (commas between them)", name),
				"as before; what others write is not shown; empty: nobody's", name, &s.Inbound); err != nil {
				return err
			}
		}
		if on || c != (installer.Channel{}) {
			channels[name] = c
		}
	}
	s.Channels = channels
	return nil
}

// askTool asks where a real tool is, and whether a person answers for a place
// that others than root can write.
func (a *app) askTool(m *machine, p prompt.Prompter, tool string, c *installer.Channel) error {
	files := m.sys.Files()
	path, err := p.Input(fmt.Sprintf("Where is the real %s?", tool), "an absolute path; the file is copied, and the copy is what runs",
		c.Tool, func(text string) error {
			if _, err := step.CheckOrigin(files, text); err != nil && !errors.Is(err, step.ErrOrigin) {
				return err
			}
			return nil
		})
	if err != nil {
		return err
	}
	if path != c.Tool {
		c.Tool, c.SHA256 = path, ""
	}
	real, err := step.CheckOrigin(files, path)
	if !errors.Is(err, step.ErrOrigin) || c.SHA256 != "" {
		return nil
	}
	c.SHA256, err = a.answerFor(m, p, real, err)
	return err
}

// answerFor asks whether a person stands in for a file, and returns the hash of
// what he was shown: the copy must have it.
func (a *app) answerFor(m *machine, p prompt.Prompter, real string, objection error) (string, error) {
	sum, err := m.sys.Files().Hash(real)
	if err != nil {
		return "", err
	}
	a.say("%v", objection)
	a.say("sha256 of %s: %s", real, sum)
	ok, err := p.Confirm("Is that the program you mean?",
		"whoever can write there, your agent perhaps, may have changed it; compare the hash with the one of its publisher", false)
	if err == nil && !ok {
		err = fmt.Errorf("nothing was changed: %s was not confirmed", real)
	}
	return sum, err
}

func askList(p prompt.Prompter, question, why, channel string, lists *map[string][]string) error {
	text, err := p.Input(question, why, strings.Join((*lists)[channel], ", "), func(text string) error {
		for _, entry := range entries(text) {
			if err := installer.CheckEntry(channel, entry); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	next := make(map[string][]string)
	for k, v := range *lists {
		next[k] = v
	}
	next[channel] = entries(text)
	*lists = next
	return nil
}

// entries splits at commas alone: people write numbers with spaces in them.
func entries(s string) []string {
	var all []string
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e != "" {
			all = append(all, e)
		}
	}
	return all
}

func words(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r == ',' || r == '\t' })
}
