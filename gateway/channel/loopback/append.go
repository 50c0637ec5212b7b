package loopback

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/carapace-gateway/carapace/gateway/channel"
)

// append writes records to the end of one mailbox, in one write and one fsync,
// after it has made room for them. It returns a *channel.ToolError when
// nothing was written, and an error that wraps channel.ErrUnknown when that is
// not certain: from then on the messenger takes nothing, because a message
// that may be there must not be written again.
func (m *Messenger) append(owner string, records []record) error {
	var lines []byte
	for _, r := range records {
		line, err := json.Marshal(r)
		if err != nil || len(line) >= m.limit.record {
			return &channel.ToolError{Code: channel.CodeToolFailed, Text: "the message is too long"}
		}
		lines = append(append(lines, line...), '\n')
	}
	if err := m.makeRoom(owner, len(lines), len(records)); err != nil {
		return &channel.ToolError{Code: channel.CodeToolFailed, Text: "there is no room for the message"}
	}
	box := m.boxes[owner]
	fresh := box == nil
	f, err := m.root.OpenFile(fileOf(owner), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return &channel.ToolError{Code: channel.CodeToolFailed, Text: "the mailbox cannot be opened"}
	}
	n, err := f.Write(lines)
	if err != nil && n < len(lines) {
		// A part of it is on disk. When it can be taken away again, nothing
		// has happened.
		info, undone := f.Stat()
		if undone == nil {
			undone = f.Truncate(info.Size() - int64(n))
		}
		if undone = errors.Join(undone, f.Sync(), f.Close()); undone != nil {
			return m.fail(errors.Join(err, undone))
		}
		return &channel.ToolError{Code: channel.CodeToolFailed, Text: "the mailbox cannot be written"}
	}
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return m.fail(err)
	}
	if fresh {
		if err := m.syncFolder(); err != nil {
			return m.fail(err)
		}
		box = &mailbox{}
		m.boxes[owner] = box
	}
	last := records[len(records)-1]
	box.size += len(lines)
	box.count += len(records)
	box.seq, box.last = last.Seq, last.Time
	m.seq = last.Seq
	return nil
}

// fail remembers a write whose outcome is unknown.
func (m *Messenger) fail(err error) error {
	m.broken = err
	return fmt.Errorf("%w: %w", channel.ErrUnknown, err)
}

// makeRoom drops what is oldest until size more bytes and count more messages
// fit into the mailbox of owner and into the folder.
func (m *Messenger) makeRoom(owner string, size, count int) error {
	box := m.boxes[owner]
	if box != nil && (box.size+size > m.limit.mailbox || box.count+count > m.limit.messages) {
		// Half of it goes, so that a full mailbox is not written anew for
		// every message.
		if err := m.shrink(owner, box, min(m.limit.mailbox/2, m.limit.mailbox-size), m.limit.messages/2); err != nil {
			return err
		}
	}
	for m.over(owner, size) {
		victim := ""
		for _, o := range m.oldestFirst() {
			if o != owner {
				victim = o
				break
			}
		}
		if victim == "" {
			return nil // one mailbox alone is within its own bound
		}
		if err := m.root.Remove(fileOf(victim)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		delete(m.boxes, victim)
	}
	return nil
}

// over reports whether the folder would be past its bounds.
func (m *Messenger) over(owner string, size int) bool {
	boxes := len(m.boxes)
	if m.boxes[owner] == nil {
		boxes++
	}
	for _, b := range m.boxes {
		size += b.size
	}
	return boxes > m.limit.boxes || size > m.limit.total
}

// shrink writes a mailbox anew with its newest messages only. The old file
// stays whole until the new one is on disk.
func (m *Messenger) shrink(owner string, box *mailbox, size, count int) error {
	records, _, err := m.read(owner)
	if err != nil {
		return err
	}
	var lines [][]byte
	kept := 0
	for i := len(records) - 1; i >= 0 && len(lines) < count; i-- {
		line, err := json.Marshal(records[i])
		if err != nil {
			return err
		}
		if kept += len(line) + 1; kept > size {
			kept -= len(line) + 1
			break
		}
		lines = append(lines, append(line, '\n'))
	}
	var whole bytes.Buffer
	for i := len(lines) - 1; i >= 0; i-- {
		whole.Write(lines[i])
	}
	const draft = "draft"
	f, err := m.root.OpenFile(draft, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(whole.Bytes())
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := m.root.Rename(draft, fileOf(owner)); err != nil {
		return err
	}
	box.size, box.count = whole.Len(), len(lines)
	return m.syncFolder()
}

func (m *Messenger) syncFolder() error {
	d, err := m.root.Open(".")
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
