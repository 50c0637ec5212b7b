package config

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
	_ "time/tzdata" // a minimal system has no zones, and quiet hours must not depend on that

	"gopkg.in/yaml.v3"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// The bounds and defaults below are those of the sample in interface §4; where
// it gives no bound, the bound is what the gateway can keep its promises with.
const (
	minMessage = 512 << 10 // a file travels in pieces of 256 KiB, in base64
	maxMessage = 64 << 20
	maxEntries = 10000 // of one list
	maxRules   = 256   // patterns of content
	maxPattern = 4096  // bytes of one
)

// Parse reads a configuration. Name is the path it was read from: errors give
// it in full, rules cite its last part. The error joins one *Error for each
// fault, in the order of their lines.
func Parse(name string, data []byte) (*Config, error) {
	r := &reader{file: name, base: filepath.Base(name)}
	sum := sha256.Sum256(data)
	p := &policy.Policy{
		SHA256:   hex.EncodeToString(sum[:]),
		Global:   policy.Limit{Requests: 120, Per: time.Minute, Burst: 120},
		Default:  policy.Limit{Requests: 30, Per: time.Minute, Burst: 30},
		PerPeer:  policy.Limit{Requests: 10, Per: time.Minute, Burst: 10},
		Attempts: policy.Limit{Requests: 20, Per: time.Second, Burst: 100},
		Channels: map[string]*policy.ChannelPolicy{},
	}
	c := &Config{
		Gateway:     Gateway{LogLevel: "info", RequestTimeout: 30 * time.Second, MaxConnections: 256, MaxMessage: 1 << 20},
		DeadLetters: DeadLetters{Retain: 720 * time.Hour, Max: 10000, KeepContent: true},
		Audit:       Audit{Checkpoint: 1000},
		Channels:    map[string]*Channel{},
		Policy:      p,
		Raw:         slices.Clone(data),
	}
	if root := r.document(data); root != nil {
		r.root(root, c)
	}
	if err := joined(r.faults); err != nil {
		return nil, err
	}
	c.Warnings = r.warned
	return c, nil
}

func (r *reader) root(n *yaml.Node, c *Config) {
	// The region comes before everything that contains a phone number,
	// wherever it stands in the file.
	r.region(n, c.Policy)
	seen := r.fields(n, "the configuration", map[string]func(*yaml.Node){
		"version":      func(v *yaml.Node) { r.integer(v, "version", 1, 1) },
		"gateway":      func(v *yaml.Node) { r.gateway(v, &c.Gateway) },
		"clients":      func(v *yaml.Node) { c.Clients = r.clients(v); c.Policy.Clients = slices.Clone(c.Clients) },
		"region":       func(*yaml.Node) {},
		"quiet_hours":  func(v *yaml.Node) { c.QuietHours = r.quietHours(v); c.Policy.QuietHours = c.QuietHours },
		"owner":        func(v *yaml.Node) { c.Owner = r.owner(v, c.Policy.Region); c.Policy.Owner = c.Owner },
		"rate":         func(v *yaml.Node) { r.rates(v, c.Policy) },
		"content":      func(v *yaml.Node) { r.content(v, c.Policy) },
		"dead_letters": func(v *yaml.Node) { r.deadLetters(v, &c.DeadLetters) },
		"audit":        func(v *yaml.Node) { r.audit(v, &c.Audit) },
		"channels":     func(v *yaml.Node) { r.channels(v, c) },
	})
	if seen["version"] == nil && n.Kind == yaml.MappingNode {
		r.fail(n.Line, "the version is missing; a configuration starts with version: 1")
	}
}

func (r *reader) region(root *yaml.Node, p *policy.Policy) {
	for i := 0; i+1 < len(root.Content) && root.Kind == yaml.MappingNode; i += 2 {
		if root.Content[i].Value != "region" {
			continue
		}
		v := root.Content[i+1]
		// Norway's NO is a word and no boolean in the YAML that is read here.
		if region, ok := r.text(v, "region"); ok {
			if err := policy.CheckRegion(region); err != nil {
				r.fail(v.Line, "region: %v", err)
				return
			}
			p.Region = region
		}
		return
	}
}

func (r *reader) gateway(n *yaml.Node, g *Gateway) {
	levels := []string{"debug", "info", "warn", "error"}
	r.fields(n, "gateway", map[string]func(*yaml.Node){
		"log_level": func(v *yaml.Node) {
			if i := r.word(v, "gateway.log_level", levels...); i >= 0 {
				g.LogLevel = levels[i]
			}
		},
		"request_timeout": func(v *yaml.Node) {
			g.RequestTimeout = r.duration(v, "gateway.request_timeout", time.Second, 10*time.Minute)
		},
		"max_connections": func(v *yaml.Node) { g.MaxConnections = r.integer(v, "gateway.max_connections", 1, 4096) },
		"max_message":     func(v *yaml.Node) { g.MaxMessage = r.size(v, "gateway.max_message", minMessage, maxMessage) },
	})
}

// userName is what useradd and dscl take for a name, and not a number, which
// would name another user.
var userName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9._-]{0,63}$`)

func (r *reader) clients(n *yaml.Node) []string {
	var names []string
	r.items(n, "clients", func(item *yaml.Node) {
		name, ok := r.text(item, "a client")
		switch {
		case !ok:
		case !userName.MatchString(name):
			r.fail(item.Line, "%q is not the name of a user", name)
		case name == "root":
			r.fail(item.Line, "root cannot be a client: nothing would be kept from it")
		case slices.Contains(names, name):
			r.fail(item.Line, "client %s stands here a second time", name)
		default:
			names = append(names, name)
		}
	})
	return names
}

var clockText = regexp.MustCompile(`^([01][0-9]|2[0-3]):([0-5][0-9])$`)

func (r *reader) quietHours(n *yaml.Node) *policy.QuietHours {
	q := &policy.QuietHours{Where: r.where(n)}
	minute := func(path string, to *int) func(*yaml.Node) {
		return func(v *yaml.Node) {
			text, ok := r.text(v, path)
			if !ok {
				return
			}
			m := clockText.FindStringSubmatch(text)
			if m == nil {
				r.fail(v.Line, "%s is %q; it must be a time of day like \"22:00\"", path, text)
				return
			}
			t, _ := time.Parse("15:04", m[0])
			*to = t.Hour()*60 + t.Minute()
		}
	}
	seen := r.fields(n, "quiet_hours", map[string]func(*yaml.Node){
		"from": minute("quiet_hours.from", &q.From),
		"to":   minute("quiet_hours.to", &q.To),
		"zone": func(v *yaml.Node) {
			text, ok := r.text(v, "quiet_hours.zone")
			if !ok {
				return
			}
			zone, err := time.LoadLocation(text)
			if err != nil || text == "Local" {
				r.fail(v.Line, "quiet_hours.zone %q is not known; it must be a name like Europe/Berlin or UTC", text)
				return
			}
			q.Zone = zone
		},
		"action": func(v *yaml.Node) {
			if r.word(v, "quiet_hours.action", "deny", "hold") == 1 {
				q.Action = policy.Hold
			}
		},
	})
	whole := true
	for _, key := range []string{"from", "to", "zone", "action"} {
		if seen[key] == nil && n.Kind == yaml.MappingNode {
			r.fail(n.Line, `quiet_hours.%s is missing; write {from: "22:00", to: "07:00", zone: Europe/Berlin, action: hold}`, key)
		}
		whole = whole && seen[key] != nil
	}
	if whole && q.From == q.To {
		r.fail(n.Line, "quiet_hours.from and quiet_hours.to are the same time; leave quiet_hours out for none")
	}
	return q
}

func (r *reader) owner(n *yaml.Node, region string) map[string]policy.Peer {
	owner := map[string]policy.Peer{}
	known := map[string]func(*yaml.Node){}
	for _, channel := range policy.ChannelNames() {
		known[channel] = func(v *yaml.Node) {
			text, ok := r.text(v, "owner."+channel)
			if !ok {
				return
			}
			p, err := policy.ParsePeer(channel, text, region)
			switch {
			case err != nil:
				r.fail(v.Line, "owner.%s %q: %v", channel, text, err)
			case p.Kind() == policy.KindChat, p.Kind() == policy.KindGroup, p.Kind() == policy.KindChannel:
				r.fail(v.Line, "owner.%s is a %s; the owner is one person", channel, p.Kind())
			default:
				owner[channel] = p
			}
		}
	}
	r.fields(n, "owner", known)
	return owner
}

func (r *reader) deadLetters(n *yaml.Node, d *DeadLetters) {
	r.fields(n, "dead_letters", map[string]func(*yaml.Node){
		"retain": func(v *yaml.Node) {
			d.Retain = r.duration(v, "dead_letters.retain", time.Minute, 10*365*24*time.Hour)
		},
		"max":     func(v *yaml.Node) { d.Max = r.integer(v, "dead_letters.max", 1, 1000000) },
		"content": func(v *yaml.Node) { d.KeepContent = r.word(v, "dead_letters.content", "metadata", "keep") == 1 },
	})
}

func (r *reader) audit(n *yaml.Node, a *Audit) {
	r.fields(n, "audit", map[string]func(*yaml.Node){
		"checkpoint": func(v *yaml.Node) { a.Checkpoint = r.integer(v, "audit.checkpoint", 1, 1000000) },
		"hash_fields": func(v *yaml.Node) {
			r.items(v, "audit.hash_fields", func(item *yaml.Node) {
				if r.word(item, "a field of audit.hash_fields", "peers") == 0 && !slices.Contains(a.HashFields, "peers") {
					a.HashFields = append(a.HashFields, "peers")
				}
			})
		},
	})
}

func (r *reader) rates(n *yaml.Node, p *policy.Policy) {
	limit := func(path string, to *policy.Limit) func(*yaml.Node) {
		return func(v *yaml.Node) { *to = r.limit(v, path) }
	}
	r.fields(n, "rate", map[string]func(*yaml.Node){
		"global":   limit("rate.global", &p.Global),
		"default":  limit("rate.default", &p.Default),
		"per_peer": limit("rate.per_peer", &p.PerPeer),
		"attempts": limit("rate.attempts", &p.Attempts),
	})
}

func (r *reader) limit(n *yaml.Node, path string) policy.Limit {
	l := policy.Limit{Where: r.where(n)}
	seen := r.fields(n, path, map[string]func(*yaml.Node){
		"requests": func(v *yaml.Node) { l.Requests = r.integer(v, path+".requests", 1, 1000000) },
		"per":      func(v *yaml.Node) { l.Per = r.duration(v, path+".per", time.Second, 31*24*time.Hour) },
		"burst":    func(v *yaml.Node) { l.Burst = r.integer(v, path+".burst", 1, 1000000) },
	})
	if n.Kind != yaml.MappingNode {
		return l
	}
	for _, key := range []string{"requests", "per"} {
		if seen[key] == nil {
			r.fail(n.Line, "%s.%s is missing; write {requests: 30, per: 60s}", path, key)
		}
	}
	if l.Burst == 0 {
		l.Burst = l.Requests
	}
	// The time in which a spent burst comes back is how far back a restart has
	// to read the log.
	if back := float64(l.Interval()) * float64(l.Capacity()); back > float64(366*24*time.Hour) {
		r.fail(n.Line, "%s.burst would take more than a year to come back; lower it", path)
	}
	return l
}

var ruleID = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,63}$`)

// content reads the section of the same name. The built-in detectors are named
// in the interface and do not exist yet: to accept their keys would promise
// what nothing keeps.
func (r *reader) content(n *yaml.Node, p *policy.Policy) {
	detector := func(path string) func(*yaml.Node) {
		off := func(path string) func(*yaml.Node) {
			return func(v *yaml.Node) {
				if v.Kind == yaml.ScalarNode && v.Value == "off" {
					return
				}
				switch r.word(v, path, "block", "hold", "redact", "warn", "off") {
				case 0, 1, 2, 3:
					r.fail(v.Line, "%s: %s is not supported yet by this version; write off, or use content.patterns", path, v.Value)
				}
			}
		}
		return func(v *yaml.Node) {
			r.fields(v, path, map[string]func(*yaml.Node){"outbound": off(path + ".outbound"), "inbound": off(path + ".inbound")})
		}
	}
	r.fields(n, "content", map[string]func(*yaml.Node){
		"secrets":      detector("content.secrets"),
		"instructions": detector("content.instructions"),
		"patterns": func(v *yaml.Node) {
			ids := map[string]int{}
			r.items(v, "content.patterns", func(item *yaml.Node) { r.pattern(item, ids, p) })
			if len(v.Content) > maxRules {
				r.fail(v.Line, "content.patterns has %d entries; at most %d are understood", len(v.Content), maxRules)
			}
		},
	})
}

func (r *reader) pattern(n *yaml.Node, ids map[string]int, p *policy.Policy) {
	rule := policy.ContentPattern{Where: r.where(n)}
	directions := []policy.Direction{policy.Outbound, policy.Inbound}
	seen := r.fields(n, "a content pattern", map[string]func(*yaml.Node){
		"id": func(v *yaml.Node) {
			id, ok := r.text(v, "id")
			switch first := ids[id]; {
			case !ok:
			case !ruleID.MatchString(id):
				r.fail(v.Line, "id %q must consist of a-z, 0-9 and hyphens", id)
			case first != 0:
				r.fail(v.Line, "id %s is that of the pattern in line %d already", id, first)
			default:
				ids[id], rule.ID = v.Line, id
			}
		},
		"pattern": func(v *yaml.Node) { rule.Regexp = r.regexp(v) },
		"direction": func(v *yaml.Node) {
			switch r.word(v, "direction", "outbound", "inbound", "both") {
			case 0:
				directions = []policy.Direction{policy.Outbound}
			case 1:
				directions = []policy.Direction{policy.Inbound}
			}
		},
		"action": func(v *yaml.Node) {
			// In the order of policy.Action.
			if i := r.word(v, "action", "block", "hold", "redact", "warn"); i >= 0 {
				rule.Action = policy.Action(i)
			}
		},
	})
	for _, key := range []string{"id", "pattern", "action"} {
		if seen[key] == nil && n.Kind == yaml.MappingNode {
			r.fail(n.Line, `%s is missing; write {id: ssn, pattern: '\b\d{3}-\d{2}-\d{4}\b', direction: outbound, action: block}`, key)
		}
	}
	for _, d := range directions {
		rule.Direction = d
		p.Patterns = append(p.Patterns, rule)
	}
}

func (r *reader) regexp(v *yaml.Node) *regexp.Regexp {
	text, ok := r.text(v, "pattern")
	if !ok {
		return nil
	}
	if len(text) > maxPattern {
		r.fail(v.Line, "the pattern is longer than %d bytes", maxPattern)
		return nil
	}
	re, err := regexp.Compile(text)
	if err != nil {
		r.fail(v.Line, "pattern: %s; patterns are RE2, without backreferences and lookaround", strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil
	}
	if re.MatchString("") {
		r.fail(v.Line, "the pattern matches the empty text, and so everything; write what it must contain")
		return nil
	}
	return re
}
