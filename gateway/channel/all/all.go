// Package all is the list of the channels. It is a function and not a table
// that packages add themselves to: who is served stands in one place.
package all

import (
	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/channel/imsg"
	"github.com/carapace-gateway/carapace/gateway/channel/loopback"
)

// Channels returns every channel by its name in the configuration. Region is
// how a phone number without + is read; empty: such numbers are refused.
func Channels(region string) map[string]channel.Channel {
	all := map[string]channel.Channel{}
	for _, c := range []channel.Channel{
		loopback.New(),
		imsg.New(region),
	} {
		all[c.Name()] = c
	}
	return all
}
