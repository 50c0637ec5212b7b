package loopback

import (
	"bytes"
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/policy"
)

// echo is the mailbox that answers.
const echo = "echo"

// Bounds of the state folder. A record that does not fit is refused; past the
// others the oldest goes.
const (
	maxRecord   = 2 << 20  // bytes of one message on disk
	maxMailbox  = 8 << 20  // bytes of one mailbox
	maxMessages = 5000     // messages of one mailbox
	maxBoxes    = 256      // mailboxes
	maxTotal    = 64 << 20 // bytes of all mailboxes
	maxAnswer   = 8 << 20  // bytes of messages in one answer
)

// bounds are the constants above, smaller in tests.
type bounds struct{ record, mailbox, messages, boxes, total, answer int }

// Messenger keeps the mailboxes. It is safe for concurrent use; one at a time
// may have a folder open (the daemon's lock on its state sees to that).
type Messenger struct {
	root  *os.Root
	limit bounds

	mu     sync.Mutex
	boxes  map[string]*mailbox // by name
	seq    int64               // of the last message
	broken error               // set by a write whose outcome is unknown; everything is refused then
	closed bool
}

var _ channel.Runner = (*Messenger)(nil)

// mailbox is what is kept in memory of one file.
type mailbox struct {
	size  int // bytes
	count int // messages
	seq   int64
	last  string // time of the last message
}

// record is one line of a mailbox. Seq orders messages of all mailboxes and is
// shown to nobody: gaps in it would tell a client how much others write.
type record struct {
	Seq       int64  `json:"seq"`
	ID        string `json:"id"`
	Direction string `json:"direction"`
	Peer      string `json:"peer"`
	From      string `json:"from,omitempty"`
	Text      string `json:"text"`
	Time      string `json:"time"`
}

// Open opens the mailboxes in dir, which it makes (0700) when only the last
// element is missing. Files that are not mailboxes are left alone; half a line
// at the end of a mailbox, left by a crash, is cut off.
func Open(dir string) (*Messenger, error) {
	return open(dir, bounds{maxRecord, maxMailbox, maxMessages, maxBoxes, maxTotal, maxAnswer})
}

func open(dir string, limit bounds) (*Messenger, error) {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, fmt.Errorf("make the folder of the mailboxes: %w", err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("open the folder of the mailboxes: %w", err)
	}
	m := &Messenger{root: root, limit: limit, boxes: map[string]*mailbox{}}
	if err := m.load(); err != nil {
		return nil, errors.Join(fmt.Errorf("read the mailboxes: %w", err), root.Close())
	}
	return m, nil
}

// load reads what is there.
func (m *Messenger) load() error {
	files, err := fs.ReadDir(m.root.FS(), ".")
	if err != nil {
		return err
	}
	for _, f := range files {
		owner, ok := ownerOf(f.Name())
		if !ok || !f.Type().IsRegular() {
			continue
		}
		if err := m.mend(f.Name()); err != nil {
			return err
		}
		records, size, err := m.read(owner)
		if err != nil {
			return err
		}
		box := &mailbox{size: size, count: len(records)}
		if n := len(records); n > 0 {
			box.seq, box.last = records[n-1].Seq, records[n-1].Time
		}
		m.boxes[owner] = box
		m.seq = max(m.seq, box.seq)
	}
	return nil
}

// mend cuts off what stands after the last line end.
func (m *Messenger) mend(file string) error {
	data, err := m.root.ReadFile(file)
	if err != nil || len(data) == 0 || data[len(data)-1] == '\n' {
		return err
	}
	f, err := m.root.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	err = f.Truncate(int64(bytes.LastIndexByte(data, '\n') + 1))
	if err == nil {
		err = f.Sync()
	}
	return errors.Join(err, f.Close())
}

// read returns the messages of a mailbox, oldest first, and the size of its
// file. A line that is no record is passed over: one damaged line must not
// hide the others.
func (m *Messenger) read(owner string) ([]record, int, error) {
	data, err := m.root.ReadFile(fileOf(owner))
	if err != nil {
		return nil, 0, err
	}
	var records []record
	for line := range bytes.Lines(data) {
		var r record
		if json.Unmarshal(line, &r) != nil || r.ID == "" || r.Peer != owner {
			continue
		}
		records = append(records, r)
	}
	return records, len(data), nil
}

// fileOf returns the name of a mailbox's file. Names are encoded so that none
// can be a path, a hidden file or, on a file system that folds case, another
// one's.
func fileOf(owner string) string { return "mailbox-" + hex.EncodeToString([]byte(owner)) + ".jsonl" }

func ownerOf(file string) (string, bool) {
	encoded, ok := bytes.CutPrefix([]byte(file), []byte("mailbox-"))
	encoded, ok2 := bytes.CutSuffix(encoded, []byte(".jsonl"))
	owner, err := hex.DecodeString(string(encoded))
	if !ok || !ok2 || err != nil {
		return "", false
	}
	p, err := policy.ParsePeer(name, string(owner), "")
	return string(owner), err == nil && p.String() == string(owner)
}

// Run implements channel.Runner. Requests are read as if a stranger had
// written them.
func (m *Messenger) Run(ctx context.Context, c channel.Command) (channel.Reply, error) {
	if err := ctx.Err(); err != nil {
		return channel.Reply{}, fmt.Errorf("%w: %w", channel.ErrNotStarted, err)
	}
	if c.Request == nil {
		return channel.Reply{}, fmt.Errorf("%w: the messenger can only be asked", channel.ErrNotStarted)
	}
	params, err := json.Marshal(c.Request.Params)
	if err != nil {
		return channel.Reply{}, fmt.Errorf("%w: %w", channel.ErrNotStarted, err)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return channel.Reply{}, fmt.Errorf("%w: the messenger is closed", channel.ErrNotStarted)
	}
	if m.broken != nil {
		return channel.Reply{}, fmt.Errorf("%w: %w", channel.ErrNotStarted, m.broken)
	}
	if c.Ready != nil {
		if err := c.Ready(); err != nil {
			return channel.Reply{}, fmt.Errorf("%w: %w", channel.ErrNotStarted, err)
		}
	}
	var result any
	switch c.Request.Method {
	case "send":
		result, err = m.send(params)
	case "history":
		result, err = m.history(params)
	case "chats":
		result, err = m.chats(params)
	default:
		err = &channel.ToolError{Code: channel.CodeNotPermitted, Text: "no such request"}
	}
	if err != nil {
		var p *channel.ParamsError
		if errors.As(err, &p) {
			err = &channel.ToolError{Code: channel.CodeInvalidParams, Text: p.What}
		}
		return channel.Reply{}, err
	}
	data, err := json.Marshal(result)
	if err != nil {
		return channel.Reply{}, fmt.Errorf("%w: %w", channel.ErrUnknown, err)
	}
	return channel.Reply{Data: data}, nil
}

func (m *Messenger) send(params json.RawMessage) (any, error) {
	var p sendRequest
	if err := channel.DecodeParams(params, &p); err != nil {
		return nil, err
	}
	to, err := peer("to", p.To)
	if err != nil {
		return nil, err
	}
	if p.Text == "" {
		return nil, &channel.ParamsError{What: "text is required"}
	}
	owner := to.String()
	now := time.Now().UTC().Format(channel.TimeFormat)
	records := []record{{Seq: m.seq + 1, ID: newID(), Direction: "out", Peer: owner, Text: p.Text, Time: now}}
	if owner == echo {
		records = append(records, record{Seq: m.seq + 2, ID: newID(), Direction: "in", Peer: owner, From: owner, Text: p.Text, Time: now})
	}
	if err := m.append(owner, records); err != nil {
		return nil, err
	}
	return channel.Sent{ID: records[0].ID, Status: "sent"}, nil
}

func (m *Messenger) history(params json.RawMessage) (any, error) {
	var p historyRequest
	if err := channel.DecodeParams(params, &p); err != nil {
		return nil, err
	}
	if p.Limit < 1 {
		return nil, &channel.ParamsError{What: "limit is required"}
	}
	owners := []string{p.Peer}
	if p.Peer == "" {
		owners = owners[:0]
		for owner := range m.boxes {
			owners = append(owners, owner)
		}
	}
	var found []record
	for _, owner := range owners {
		if m.boxes[owner] == nil {
			continue
		}
		records, _, err := m.read(owner)
		if err != nil {
			return nil, &channel.ToolError{Code: channel.CodeToolFailed, Text: "a mailbox cannot be read"}
		}
		// Only the newest can be among the newest of all.
		found = append(found, newest(records, p.Limit)...)
		slices.SortFunc(found, func(a, b record) int { return cmp.Compare(a.Seq, b.Seq) })
		found = newest(found, p.Limit)
	}
	answer := channel.History{Messages: []channel.Message{}}
	size := 0
	for i := len(found) - 1; i >= 0; i-- {
		r := found[i]
		if size += len(r.Text) + 256; size > m.limit.answer {
			break
		}
		answer.Messages = append(answer.Messages, channel.Message{
			ID: r.ID, Channel: name, Direction: r.Direction, Peer: r.Peer, From: r.From, Text: r.Text, Time: r.Time,
		})
	}
	slices.Reverse(answer.Messages)
	return answer, nil
}

func newest(records []record, n int) []record { return records[max(0, len(records)-n):] }

func (m *Messenger) chats(params json.RawMessage) (any, error) {
	var p chatsRequest
	if err := channel.DecodeParams(params, &p); err != nil {
		return nil, err
	}
	if p.Limit < 1 {
		return nil, &channel.ParamsError{What: "limit is required"}
	}
	owners := m.oldestFirst()
	slices.Reverse(owners)
	answer := channel.Conversations{Chats: []channel.Conversation{}}
	for _, owner := range owners[:min(len(owners), p.Limit)] {
		if box := m.boxes[owner]; box.count > 0 {
			answer.Chats = append(answer.Chats, channel.Conversation{Peer: owner, LastMessageAt: box.last})
		}
	}
	return answer, nil
}

// oldestFirst returns the mailboxes in the order of their last message.
func (m *Messenger) oldestFirst() []string {
	owners := make([]string, 0, len(m.boxes))
	for owner := range m.boxes {
		owners = append(owners, owner)
	}
	slices.SortFunc(owners, func(a, b string) int {
		return cmp.Or(cmp.Compare(m.boxes[a].seq, m.boxes[b].seq), cmp.Compare(a, b))
	})
	return owners
}

// Status implements channel.Runner.
func (m *Messenger) Status() channel.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	switch {
	case m.closed:
		return channel.Status{State: channel.StateDown}
	case m.broken != nil:
		return channel.Status{State: channel.StateDown, LastError: "a mailbox could not be written"}
	}
	return channel.Status{State: channel.StateReady}
}

// Close implements channel.Runner.
func (m *Messenger) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil
	}
	m.closed = true
	if err := m.root.Close(); err != nil {
		return fmt.Errorf("close the mailboxes: %w", err)
	}
	return nil
}

func newID() string {
	var b [8]byte
	rand.Read(b[:]) // never fails: crypto/rand ends the program instead
	return hex.EncodeToString(b[:])
}
