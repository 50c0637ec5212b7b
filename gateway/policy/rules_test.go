package policy

import (
	"testing"
	"time"
)

// The words are read by scripts (interface §7, §9).
func TestWords(t *testing.T) {
	for action, want := range map[Action]string{Deny: "deny", Hold: "hold", Redact: "redact", Warn: "warn", Allow: "allow", 200: "deny"} {
		if action.String() != want {
			t.Errorf("Action(%d) is %q; want %q", uint8(action), action, want)
		}
	}
	for stage, want := range map[Stage]string{StageNone: "none", StageLock: "lock", StageCommand: "command", StagePeer: "peer", StageContent: "content", StageRate: "rate"} {
		if stage.String() != want {
			t.Errorf("Stage(%d) is %q; want %q", uint8(stage), stage, want)
		}
	}
	if Outbound.String() != "outbound" || Inbound.String() != "inbound" {
		t.Errorf("directions are %q and %q", Outbound, Inbound)
	}
	for mode, want := range map[Mode]string{Allowlist: "allowlist", Denylist: "denylist", Open: "open", 9: "allowlist"} {
		if mode.String() != want {
			t.Errorf("Mode(%d) is %q; want %q", uint8(mode), mode, want)
		}
	}
}

// list makes a list of a test channel's entries; the place of entry i is its
// own text.
func list(t testing.TB, mode Mode, allow, deny []string) List {
	t.Helper()
	entries := func(texts []string) []Entry {
		var all []Entry
		for _, text := range texts {
			p, err := ParsePattern("imessage", text, "")
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, Entry{p, text})
		}
		return all
	}
	return List{Mode: mode, Allow: entries(allow), Deny: entries(deny), Where: "list"}
}

func TestJudge(t *testing.T) {
	bob, eve := "+14155551212", "+14155550666"
	hold := list(t, Allowlist, []string{bob}, []string{eve})
	hold.Otherwise = Hold
	odd := list(t, 7, []string{bob}, nil)
	loose := list(t, Allowlist, nil, nil)
	loose.Otherwise = Allow
	for name, c := range map[string]struct {
		list  List
		peer  string
		want  Action
		where string
	}{
		"zero":                     {List{}, bob, Deny, ""},
		"listed":                   {list(t, Allowlist, []string{bob}, nil), bob, Allow, bob},
		"not listed":               {list(t, Allowlist, []string{bob}, nil), eve, Deny, "list"},
		"deny beats allow":         {list(t, Allowlist, []string{"+1415555*"}, []string{eve}), eve, Deny, eve},
		"held":                     {hold, "+123", Hold, "list"},
		"denied, not held":         {hold, eve, Deny, eve},
		"denylist":                 {list(t, Denylist, nil, []string{eve}), bob, Allow, "list"},
		"on the denylist":          {list(t, Denylist, []string{eve}, []string{eve}), eve, Deny, eve},
		"open":                     {list(t, Open, nil, nil), eve, Allow, "list"},
		"open, but denied":         {list(t, Open, nil, []string{eve}), eve, Deny, eve},
		"no mode":                  {odd, bob, Deny, "list"},
		"otherwise is never allow": {loose, bob, Deny, "list"},
	} {
		action, where := c.list.Judge(mustPeer(t, "imessage", c.peer))
		if action != c.want || where != c.where {
			t.Errorf("%s: %s at %q; want %s at %q", name, action, where, c.want, c.where)
		}
	}
	open := list(t, Open, nil, nil)
	if action, _ := open.Judge(Peer{}); action != Deny {
		t.Errorf("nobody is given %s", action)
	}
	gmail := List{Mode: Open, Deny: []Entry{{Pattern{exact, KindEmail, "bob@gmail.com"}, "line"}}}
	if denied, where := gmail.Denies(mustPeer(t, "gmail", "b.ob@gmail.com")); !denied || where != "line" {
		t.Errorf("another spelling of a denied mailbox: %t at %q", denied, where)
	}
}

func TestLimit(t *testing.T) {
	for _, c := range []struct {
		limit    Limit
		interval time.Duration
		capacity int
	}{
		{Limit{}, 0, 0},
		{Limit{Requests: 10}, 0, 0},
		{Limit{Per: time.Second, Burst: 5}, 0, 0},
		{Limit{Requests: -1, Per: time.Second}, 0, 0},
		{Limit{Requests: 10, Per: time.Second}, 100 * time.Millisecond, 10},
		{Limit{Requests: 10, Per: time.Second, Burst: 3}, 100 * time.Millisecond, 3},
		{Limit{Requests: 7, Per: time.Second}, 142857143, 7}, // rounded up
	} {
		if c.limit.Interval() != c.interval || c.limit.Capacity() != c.capacity {
			t.Errorf("%+v: interval %d, capacity %d; want %d, %d", c.limit, c.limit.Interval(), c.limit.Capacity(), c.interval, c.capacity)
		}
	}
}

func TestQuiet(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skipf("needs the time zone data of the system: %v", err)
	}
	night := &QuietHours{From: 22 * 60, To: 7 * 60, Zone: berlin}
	noon := &QuietHours{From: 12 * 60, To: 13*60 + 30, Zone: time.UTC}
	for _, c := range []struct {
		q     *QuietHours
		at    string
		quiet bool
		left  time.Duration
	}{
		{night, "2026-01-10T20:59:59Z", false, 0}, // 21:59:59 in Berlin
		{night, "2026-01-10T21:00:00Z", true, 9 * time.Hour},
		{night, "2026-01-11T05:59:59Z", true, time.Second},
		{night, "2026-01-11T06:00:00Z", false, 0},
		{night, "2026-03-28T22:30:00Z", true, 6*time.Hour + 30*time.Minute}, // the night that lacks an hour
		{noon, "2026-01-10T11:59:00Z", false, 0},
		{noon, "2026-01-10T12:00:00Z", true, 90 * time.Minute},
		{noon, "2026-01-10T13:30:00Z", false, 0},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		if err != nil {
			t.Fatal(err)
		}
		quiet, left := c.q.Quiet(at)
		if quiet != c.quiet || left != c.left {
			t.Errorf("at %s: %t for %s; want %t for %s", c.at, quiet, left, c.quiet, c.left)
		}
	}
}
