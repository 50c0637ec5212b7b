package imsg

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// FuzzClassify shows that no words, on a command line or as parameters, become
// a send to nobody or to more than one.
func FuzzClassify(f *testing.F) {
	for _, argv := range []string{
		"send\n--to\n+15550001111\n--text\nhi", "send\n--chat-id\n1\n--text\nhi", "send\n--to\n\n--text\nhi", "history\n--chat-id\n2",
		"send\n--chat-identifier\nimessage:x\n--text\nt", "chats\n-jv", "send\n--to\nA\n--to\nB", "--\n--version", "send\n--\n--to\nx",
	} {
		f.Add(argv)
	}
	s := suite()
	f.Fuzz(func(t *testing.T, argv string) {
		s.CheckCall(t, channel.Call{Argv: append([]string{"imsg"}, strings.Split(argv, "\n")...)})
		s.CheckCall(t, channel.Call{Method: "send", Params: json.RawMessage(argv)})
		s.CheckCall(t, channel.Call{Method: "get_history", Params: json.RawMessage(argv)})
	})
}

// FuzzInbound shows that no answer of the tool becomes an item that cannot be
// judged, or a conversation that is nobody's.
func FuzzInbound(f *testing.F) {
	f.Add([]byte(leaky))
	f.Add([]byte(leakyChats))
	f.Add([]byte(world))
	s := suite()
	read := policy.Operation{Channel: name, Direction: policy.Inbound, Verb: policy.VerbRead, Command: "history", Chat: someone(f, "iMessage;+;chat700"),
		Group: true, Detail: History{Limit: 50, Target: Target{ChatID: 3}}}
	list := policy.Operation{Channel: name, Direction: policy.Inbound, Verb: policy.VerbList, Command: "chats", Detail: Chats{Limit: 50}}
	f.Fuzz(func(t *testing.T, data []byte) {
		s.CheckAnswer(t, read, data)
		s.CheckAnswer(t, list, data)
		for _, op := range []policy.Operation{
			{Channel: name, Verb: policy.VerbSend, Command: "send", Body: []policy.Text{"t"}, Detail: Send{Service: "auto", Target: Target{ChatID: 3}}},
			{Channel: name, Verb: policy.VerbRead, Command: "history", Detail: History{Target: Target{ChatID: 3}}},
		} {
			got, err := New("US").Resolve(op, channel.Reply{Data: data})
			if err == nil && got.Chat.IsZero() && (len(got.To) != 1 || got.To[0].IsZero()) {
				t.Fatalf("%q resolves %+v to nobody", data, got)
			}
		}
	})
}
