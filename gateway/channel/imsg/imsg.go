// Package imsg is the channel "imessage": the grammar of the tool imsg, the filters
// of what it answers, and the texts that its users expect, in the profile
// of imsg 0.9.
package imsg

import (
	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Channel is the grammar of imsg.
type Channel struct{ region string }

// New returns the channel. Region is how a phone number without + is read
// ("US"); empty: such a number is refused.
func New(region string) *Channel { return &Channel{region: region} }

var _ channel.Channel = (*Channel)(nil)

// Name implements channel.Channel.
func (*Channel) Name() string { return "imessage" }

// Tool implements channel.Channel.
func (*Channel) Tool() string { return "imsg" }

// Classify implements channel.Channel.
func (*Channel) Classify(channel.Call) (policy.Operation, error) {
	return policy.Operation{}, &channel.NotPermittedError{What: "imessage"}
}

// Command implements channel.Channel.
func (*Channel) Command(policy.Operation) (channel.Command, error) {
	return channel.Command{}, &channel.NotPermittedError{What: "imessage"}
}

// Inbound implements channel.Channel.
func (*Channel) Inbound(policy.Operation, []byte) ([]policy.Operation, int, error) {
	return nil, 0, nil
}

// Render implements channel.Channel.
func (*Channel) Render(channel.Call, policy.Operation, channel.Result) channel.Output {
	return channel.Output{Exit: channel.ExitNotPermitted}
}
