package channel

// The results of our own methods are the same for every channel, so that who
// asks over the wire need not know which tool is behind it.

// Sent is the result of channel.send.
type Sent struct {
	ID     string `json:"id,omitempty"` // the messenger's name for the message, where it tells one
	Status string `json:"status"`       // "sent"
}

// Message is one message in the result of channel.get_history.
type Message struct {
	ID        string `json:"id"`
	Channel   string `json:"channel"`
	Direction string `json:"direction"` // "in" or "out", as the owner of the account sees it
	Peer      string `json:"peer"`      // the conversation
	From      string `json:"from"`      // who wrote it; "" when the owner did
	Text      string `json:"text"`
	Time      string `json:"time"` // RFC 3339, UTC
}

// History is the result of channel.get_history, oldest first.
type History struct {
	Messages []Message `json:"messages"`
}

// Conversation is one row in the result of channel.list_chats.
type Conversation struct {
	Peer          string `json:"peer"`
	LastMessageAt string `json:"last_message_at"` // RFC 3339, UTC
}

// Conversations is the result of channel.list_chats, the latest first.
type Conversations struct {
	Chats []Conversation `json:"chats"`
}

// MaxRows is the most rows that one call is shown. A client that asks for more
// gets these.
const MaxRows = 500

// FetchMessages is how many messages to ask a tool for when a client asked for
// limit: what a client may not see is taken out afterwards, and a client that
// asked for ten should get ten where there are ten for it. The price is
// bounded: at most 1,050.
func FetchMessages(limit int) int { return 2*limit + 50 }

// FetchChats is the same for conversations, most of which are none of a
// client's business. At most 1,000.
func FetchChats(limit int) int { return limit + MaxRows }

// TimeFormat is how times are written to clients: UTC, milliseconds.
const TimeFormat = "2006-01-02T15:04:05.000Z"
