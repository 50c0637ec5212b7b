package all

import (
	"slices"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// TestNames holds the list to the names that the configuration knows, and to
// the tools whose links the installer makes.
func TestNames(t *testing.T) {
	tools := map[string]string{"loopback": "", "imessage": "imsg", "signal": "signal-cli", "discord": "discord", "gmail": "gog"}
	channels := Channels("US")
	for name, c := range channels {
		if c.Name() != name || c.Tool() != tools[name] {
			t.Errorf("%s is called %s and serves %q", name, c.Name(), c.Tool())
		}
		if !slices.Contains(policy.ChannelNames(), name) {
			t.Errorf("the configuration does not know %s", name)
		}
	}
	for _, name := range []string{"loopback", "imessage"} {
		if channels[name] == nil {
			t.Errorf("%s is missing", name)
		}
	}
}
