// Package loopback is the embedded messenger: a channel with no account and
// no tool, so that install, policy, queue, audit and verify can be seen
// working on any machine.
package loopback

import (
	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// Channel is the grammar of the embedded messenger.
type Channel struct{}

// New returns the channel.
func New() *Channel { return &Channel{} }

var _ channel.Channel = (*Channel)(nil)

// Name implements channel.Channel.
func (*Channel) Name() string { return "loopback" }

// Tool implements channel.Channel: there is no tool.
func (*Channel) Tool() string { return "" }

// Classify implements channel.Channel.
func (*Channel) Classify(channel.Call) (policy.Operation, error) {
	return policy.Operation{}, &channel.NotPermittedError{What: "loopback"}
}

// Command implements channel.Channel.
func (*Channel) Command(policy.Operation) (channel.Command, error) {
	return channel.Command{}, &channel.NotPermittedError{What: "loopback"}
}

// Inbound implements channel.Channel.
func (*Channel) Inbound(policy.Operation, []byte) ([]policy.Operation, int, error) {
	return nil, 0, nil
}

// Render implements channel.Channel.
func (*Channel) Render(channel.Call, policy.Operation, channel.Result) channel.Output {
	return channel.Output{Exit: channel.ExitNotPermitted}
}
