package step

import (
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/templates"
)

// TestCheckJob holds what the templates render to what the installer wants of
// launchd, and shows that each way to get it wrong is refused.
func TestCheckJob(t *testing.T) {
	v := templates.Values{Prefix: "/usr/local/carapace", ServiceUser: "carapace", ServiceGroup: "carapace", ClientGroup: "carapace-clients",
		Config: "/Library/Application Support/Carapace/config.yaml", State: "/var/db/carapace", Run: "/var/run/carapace",
		Spool: "/var/spool/carapace", Logs: "/Library/Logs/Carapace", Home: "/Users/carapace"}
	gateway, err := templates.Launchd(templates.PlistGateway, v)
	if err != nil {
		t.Fatal(err)
	}
	rundir, err := templates.Launchd(templates.PlistRundir, v)
	if err != nil {
		t.Fatal(err)
	}
	const program = "/usr/local/carapace/libexec/carapaced"
	if err := CheckJob(gateway, "ai.carapace.gateway", "carapace", program); err != nil {
		t.Error(err)
	}
	if err := CheckJob(rundir, "ai.carapace.rundir", "root", "/usr/local/carapace/bin/carapace-setup"); err != nil {
		t.Error(err)
	}
	for name, c := range map[string]struct{ old, new, want string }{
		"no user":         {"<key>UserName</key>\n\t<string>carapace</string>", "", `runs as ""`},
		"another user":    {"<key>UserName</key>\n\t<string>carapace<", "<key>UserName</key>\n\t<string>root<", `runs as "root"`},
		"another label":   {"<string>ai.carapace.gateway<", "<string>ai.carapace.other<", "has the label"},
		"another program": {"<string>" + program, "<string>/opt/homebrew/bin/carapaced", "does not run"},
		"two programs":    {"<key>Label</key>", "<key>Program</key>\n\t<string>/bin/sh</string>\n\t<key>Label</key>", "twice"},
		"core dumps":      {"HardResourceLimits", "SoftResourceLimitz", "core dumps"},
		"no list":         {"<plist version=\"1.0\">", "<plist version=\"1.0\"><string>x</string>", "read job"},
	} {
		t.Run(name, func(t *testing.T) {
			changed := strings.Replace(string(gateway), c.old, c.new, 1)
			if changed == string(gateway) {
				t.Fatal("the case changes nothing")
			}
			err := CheckJob([]byte(changed), "ai.carapace.gateway", "carapace", program)
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error = %v, want %q", err, c.want)
			}
		})
	}
}
