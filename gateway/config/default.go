package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// DefaultOptions is what the installer knows when it writes the first
// configuration.
type DefaultOptions struct {
	Clients  []string // names of OS users
	Region   string   // ISO 3166, "US"; empty: a phone number without + is refused
	Channels []DefaultChannel
	// AllowOutbound and AllowInbound are the allow lists, by channel. A
	// channel named here but not in Channels is an error: the entries would
	// be lost.
	AllowOutbound map[string][]string
	AllowInbound  map[string][]string
}

// DefaultChannel is one channel of DefaultOptions.
type DefaultChannel struct {
	Name    string
	Enabled bool
	Tool    string // absolute path in the vault; not for loopback and discord
	Account string // signal, gmail; may be empty
	// Listen and Upstream are discord's; empty means the default.
	Listen   string
	Upstream string
}

// Default writes a commented configuration that says what the options say and
// nothing else, such that Parse gives it back. Lists are always allow lists.
// When the options do not mention loopback, it is enabled with echo on both
// lists, so that an installation can be seen working with no account anywhere.
// Options that Parse would refuse are an error that says why.
func Default(o DefaultOptions) ([]byte, error) {
	if !slices.ContainsFunc(o.Channels, func(c DefaultChannel) bool { return c.Name == "loopback" }) {
		o.Channels = slices.Concat([]DefaultChannel{{Name: "loopback", Enabled: true}}, o.Channels)
	}
	for _, lists := range []map[string][]string{o.AllowOutbound, o.AllowInbound} {
		for name := range lists {
			if !slices.ContainsFunc(o.Channels, func(c DefaultChannel) bool { return c.Name == name }) {
				return nil, fmt.Errorf("write configuration: entries for channel %s, which is not among the channels", name)
			}
		}
	}
	var b strings.Builder
	b.WriteString(defaultHead)
	fmt.Fprintf(&b, "clients: %s\n", flow(o.Clients))
	if o.Region != "" {
		fmt.Fprintf(&b, "\n# How a phone number without + is read.\nregion: %s\n", strconv.QuoteToASCII(o.Region))
	} else {
		b.WriteString("\n# How a phone number without + is read. Without a region it is refused.\n#region: \"US\"\n")
	}
	b.WriteString(defaultMiddle)
	for _, name := range policy.ChannelNames() {
		for _, c := range o.Channels {
			if c.Name == name {
				writeChannel(&b, c, allowed(o.AllowOutbound, name), allowed(o.AllowInbound, name))
			}
		}
	}
	data := []byte(b.String())
	c, err := Parse("config.yaml", data)
	if err != nil {
		return nil, fmt.Errorf("write configuration: %w", err)
	}
	for _, want := range o.Channels {
		if got := c.Channels[want.Name]; got == nil || got.Enabled != want.Enabled {
			return nil, fmt.Errorf("write configuration: there is no channel %q", want.Name)
		}
	}
	return data, nil
}

// allowed returns the list of a channel; loopback without one has echo.
func allowed(lists map[string][]string, name string) []string {
	list, named := lists[name]
	if !named && name == "loopback" {
		return []string{"echo"}
	}
	return list
}

func writeChannel(b *strings.Builder, c DefaultChannel, outbound, inbound []string) {
	fmt.Fprintf(b, "  %s:\n", c.Name)
	fmt.Fprintf(b, "    enabled: %t\n", c.Enabled)
	for _, line := range []struct{ key, value string }{
		{"tool", c.Tool}, {"account", c.Account}, {"listen", c.Listen}, {"upstream", c.Upstream},
	} {
		if line.value != "" {
			fmt.Fprintf(b, "    %s: %s\n", line.key, strconv.QuoteToASCII(line.value))
		}
	}
	writeList(b, "outbound", "deny", outbound)
	writeList(b, "inbound", "drop", inbound)
}

// writeList writes one entry a line: the line is what a verdict cites.
func writeList(b *strings.Builder, key, otherwise string, allow []string) {
	fmt.Fprintf(b, "    %s:\n      mode: allowlist\n", key)
	if len(allow) == 0 {
		b.WriteString("      allow: []\n")
	} else {
		b.WriteString("      allow:\n")
	}
	for _, entry := range allow {
		fmt.Fprintf(b, "        - %s\n", strconv.QuoteToASCII(entry))
	}
	fmt.Fprintf(b, "      deny: []\n      otherwise: %s\n", otherwise)
}

// flow writes a list of texts. A text in double quotes with Go's ASCII escapes
// is the same text in YAML.
func flow(items []string) string {
	quoted := make([]string, len(items))
	for i, s := range items {
		quoted[i] = strconv.QuoteToASCII(s)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

const defaultHead = `# What the Carapace gateway may do. Read strictly: a key that is not known is
# an error, and the gateway keeps the last good configuration.
#
#   carapacectl policy check          is this file right?
#   carapacectl policy explain        what would happen to one message, and why?
#   sudo -k carapacectl reload        take it (--widen when it permits more)
#
# An allow list names whom the clients may reach: "+14155551212", "+1415555*",
# "jane@example.com", "*@example.com", "*@*.example.com", or an id such as
# "chat:iMessage;+;chat700". Put every entry in quotes. An empty list permits
# nobody.
version: 1

gateway:
  log_level: info
  request_timeout: 30s
  max_connections: 256
  max_message: 1MiB

# The OS users that are served.
`

const defaultMiddle = `
# How often something may be sent. What is refused does not count.
rate:
  global: {requests: 120, per: 60s}
  default: {requests: 30, per: 60s}
  per_peer: {requests: 10, per: 60s}
  attempts: {requests: 20, per: 1s, burst: 100}

# Nothing is sent at night: held until a person releases it.
#quiet_hours: {from: "22:00", to: "07:00", zone: Europe/Berlin, action: hold}

# Words that may not pass: block, hold, redact or warn.
content:
  patterns: []
#   - {id: ssn, pattern: '\b\d{3}-\d{2}-\d{4}\b', direction: outbound, action: block}

# What was held or refused, and for how long it is kept.
dead_letters: {retain: 720h, max: 10000, content: keep}

audit: {checkpoint: 1000, hash_fields: []}

channels:
`
