package config

import (
	"net/netip"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// The defaults of interface §8.
const (
	defaultListen   = "127.0.0.1:18821"
	defaultUpstream = "https://discord.com/api/v10"
)

// hasTool lists the channels that run a program of somebody else's.
var hasTool = map[string]bool{"imessage": true, "signal": true, "gmail": true}

func (r *reader) channels(n *yaml.Node, c *Config) {
	known := map[string]func(*yaml.Node){}
	for _, name := range policy.ChannelNames() {
		known[name] = func(v *yaml.Node) { r.channel(v, name, c) }
	}
	r.fields(n, "channels", known)
}

func (r *reader) channel(n *yaml.Node, name string, c *Config) {
	at := "channels." + name
	ch := &Channel{Name: name, Where: r.where(n)}
	p := &policy.ChannelPolicy{Where: r.where(n), Outbound: policy.List{Where: r.where(n)}, Inbound: policy.List{Where: r.where(n)}}
	c.Channels[name], c.Policy.Channels[name] = ch, p
	region := c.Policy.Region
	keys := map[string]func(*yaml.Node){
		"enabled":  func(v *yaml.Node) { ch.Enabled = r.boolean(v, at+".enabled"); p.Enabled = ch.Enabled },
		"outbound": func(v *yaml.Node) { p.Outbound = r.list(v, at+".outbound", name, region, "deny") },
		"inbound":  func(v *yaml.Node) { p.Inbound = r.list(v, at+".inbound", name, region, "drop") },
		"groups":   func(v *yaml.Node) { r.groups(v, at+".groups", p) },
		"rate":     func(v *yaml.Node) { l := r.limit(v, at+".rate"); p.Limit = &l },
		"commands": func(v *yaml.Node) { r.commands(v, at+".commands", p) },
	}
	if hasTool[name] {
		keys["tool"] = func(v *yaml.Node) { ch.Tool = r.tool(v, at+".tool") }
	}
	switch name {
	case "signal", "gmail":
		keys["account"] = func(v *yaml.Node) { ch.Account = r.account(v, at+".account", name, region) }
	case "discord":
		ch.Listen, ch.Upstream = defaultListen, defaultUpstream
		keys["listen"] = func(v *yaml.Node) { ch.Listen = r.listen(v, at+".listen") }
		keys["upstream"] = func(v *yaml.Node) { ch.Upstream = r.upstream(v, at+".upstream") }
	}
	seen := r.fields(n, at, keys)
	if n.Kind != yaml.MappingNode {
		return
	}
	if seen["enabled"] == nil {
		r.warn(n, "%s has no key enabled and is therefore off", at)
	}
	if ch.Enabled && hasTool[name] && seen["tool"] == nil {
		r.fail(n.Line, "%s.tool is missing; write the absolute path of the real tool", at)
	}
}

// tool reads the path of a program. Whether a program is there, and whose it
// is, is looked at when it is run.
func (r *reader) tool(n *yaml.Node, at string) string {
	text, ok := r.text(n, at)
	if ok && (!strings.HasPrefix(text, "/") || path.Clean(text) != text) {
		r.fail(n.Line, "%s is %q; it must be an absolute path without . and .. in it", at, text)
	}
	return text
}

func (r *reader) account(n *yaml.Node, at, channel, region string) string {
	text, ok := r.text(n, at)
	if !ok {
		return ""
	}
	p, err := policy.ParsePeer(channel, text, region)
	if err == nil && p.Kind() != policy.KindGroup {
		return p.ID()
	}
	if err != nil {
		r.fail(n.Line, "%s: %q: %v", at, text, err)
	} else {
		r.fail(n.Line, "%s is a group; it must be the account that the tool uses", at)
	}
	return ""
}

func (r *reader) listen(n *yaml.Node, at string) string {
	text, ok := r.text(n, at)
	if !ok {
		return ""
	}
	addr, err := netip.ParseAddrPort(text)
	if err != nil || !addr.Addr().IsLoopback() || addr.Port() == 0 {
		r.fail(n.Line, "%s is %q; it must be an address of this machine with a port, like %s", at, text, defaultListen)
	}
	return text
}

// upstream reads where the façade's requests go, with the real token: over TLS,
// unless it is this machine.
func (r *reader) upstream(n *yaml.Node, at string) string {
	text, ok := r.text(n, at)
	if !ok {
		return ""
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		r.fail(n.Line, "%s is %q; it must be a URL like %s", at, text, defaultUpstream)
		return text
	}
	host, err := netip.ParseAddr(u.Hostname())
	local := err == nil && host.IsLoopback()
	if u.Scheme != "https" && !(u.Scheme == "http" && local) {
		r.fail(n.Line, "%s is %q; it must begin with https:// (http:// only to an address of this machine)", at, text)
	}
	return text
}

// list reads one direction of a channel. Refuse is the word for Deny in that
// direction.
func (r *reader) list(n *yaml.Node, at, channel, region, refuse string) policy.List {
	l := policy.List{Where: r.where(n)}
	entries := func(key string, to *[]policy.Entry) func(*yaml.Node) {
		return func(v *yaml.Node) {
			r.items(v, at+"."+key, func(item *yaml.Node) {
				text, ok := r.text(item, "an entry of "+at+"."+key)
				if !ok {
					return
				}
				p, err := policy.ParsePattern(channel, text, region)
				if err != nil {
					r.fail(item.Line, "%s.%s: %q: %v", at, key, text, err)
					return
				}
				*to = append(*to, policy.Entry{Pattern: p, Where: r.where(item)})
			})
			if len(v.Content) > maxEntries {
				r.fail(v.Line, "%s.%s has %d entries; at most %d are understood", at, key, len(v.Content), maxEntries)
			}
		}
	}
	r.fields(n, at, map[string]func(*yaml.Node){
		"mode": func(v *yaml.Node) {
			// In the order of policy.Mode.
			if i := r.word(v, at+".mode", "allowlist", "denylist", "open"); i >= 0 {
				l.Mode = policy.Mode(i)
			}
		},
		"allow": entries("allow", &l.Allow),
		"deny":  entries("deny", &l.Deny),
		"otherwise": func(v *yaml.Node) {
			if r.word(v, at+".otherwise", refuse, "hold") == 1 {
				l.Otherwise = policy.Hold
			}
		},
	})
	if l.Mode != policy.Allowlist {
		r.warn(n, "%s has mode %s: everybody who is not on its deny list passes, whatever allow and otherwise say", at, l.Mode)
	}
	return l
}

func (r *reader) groups(n *yaml.Node, at string, p *policy.ChannelPolicy) {
	r.fields(n, at, map[string]func(*yaml.Node){
		"members": func(v *yaml.Node) {
			// To judge a group by its members, the gateway would have to know
			// them; to ignore the key would permit groups that it forbids.
			if r.word(v, at+".members", "any", "allowed") == 1 {
				r.fail(v.Line, "%s.members: allowed is not supported yet by this version; write any, and list the groups that are permitted", at)
			}
		},
		"senders": func(v *yaml.Node) {
			if r.word(v, at+".senders", "any", "allowed") == 0 {
				p.GroupSenders = policy.SendersAny
			}
		},
	})
}

// commandName is what the tools call their commands: "send", "chats.list",
// "gmail send".
var commandName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9._-]*( [A-Za-z][A-Za-z0-9._-]*)*$`)

func (r *reader) commands(n *yaml.Node, at string, p *policy.ChannelPolicy) {
	names := func(key string, to *[]string, where *string) func(*yaml.Node) {
		return func(v *yaml.Node) {
			*where = r.where(v)
			r.items(v, at+"."+key, func(item *yaml.Node) {
				name, ok := r.text(item, "an entry of "+at+"."+key)
				switch {
				case !ok:
				case len(name) > 64 || !commandName.MatchString(name):
					r.fail(item.Line, "%s.%s: %q is not the name of a command; write it as the tool does", at, key, name)
				case !slices.Contains(*to, name):
					*to = append(*to, name)
				}
			})
		}
	}
	r.fields(n, at, map[string]func(*yaml.Node){
		"allow": names("allow", &p.AllowCommands, &p.AllowWhere),
		"deny":  names("deny", &p.DenyCommands, &p.DenyWhere),
	})
}
