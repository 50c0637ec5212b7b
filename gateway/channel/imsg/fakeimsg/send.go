package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel/imsg/imsgtest"
)

// target is what a caller says of a recipient: up to four names, of which one
// wins.
type target struct {
	to         string
	chatID     *int64
	identifier string
	guid       string
}

func (t target) chat() bool { return t.chatID != nil || t.identifier != "" || t.guid != "" }

// message is one send as the caller asks for it.
type message struct {
	target
	text, file, service, region string
}

// contactName is the tool's own test for a word to look up in the address book.
func contactName(s string) bool {
	s = strings.TrimSpace(s)
	return s != "" && !strings.Contains(s, "@") && !strings.HasPrefix(s, "+") && strings.Trim(s, "0123456789-(). ") != ""
}

// lookUp returns the handle of a contact, or the name itself when nobody has
// it.
func (t *tool) lookUp(name string) (string, error) {
	var found []imsgtest.Contact
	for _, c := range t.Contacts {
		if strings.Contains(strings.ToLower(c.Name), strings.ToLower(name)) {
			found = append(found, c)
		}
	}
	switch len(found) {
	case 0:
		return name, nil
	case 1:
		return found[0].Handle, nil
	}
	text := fmt.Sprintf("Multiple contacts match %q:\n", name)
	for _, c := range found {
		text += "  " + c.Name + ": " + c.Handle + "\n"
	}
	return "", fmt.Errorf("Invalid chat target: %sSpecify a phone number or email instead.", text)
}

func (t *tool) chatByID(id int64) *imsgtest.Chat {
	for i := range t.Chats {
		if t.Chats[i].ID == id {
			return &t.Chats[i]
		}
	}
	return nil
}

// handleLike is the sender's own test for an identifier that is a person.
func handleLike(s string) bool {
	l := strings.ToLower(strings.TrimSpace(s))
	for _, p := range []string{"imessage:", "sms:", "auto:"} {
		if strings.HasPrefix(l, p) {
			return true
		}
	}
	return l != "" && (strings.Contains(l, "@") || strings.Trim(l, "+0123456789 ()-") == "")
}

// perform sends: it writes the line and returns the row id and guid of the new
// message.
func (t *tool) perform(m message) (int64, string, error) {
	s := imsgtest.Sent{
		Time: time.Now().UTC().Format(time.RFC3339Nano), PID: os.Getpid(), UID: os.Getuid(), GID: os.Getgid(),
		Argv: os.Args, Env: os.Environ(), Text: m.text, File: m.file, Service: m.service,
	}
	s.Cwd, _ = os.Getwd()
	identifier, guid := strings.TrimSpace(m.identifier), strings.TrimSpace(m.guid)
	switch {
	case handleLike(identifier):
		s.Buddy = identifier
	case guid != "":
		s.Chat = guid
	case identifier != "":
		s.Chat = identifier
	default:
		s.Buddy = normal(m.to, m.region)
	}
	if s.Buddy != "" && s.Service == "auto" {
		s.Service = "imessage"
	}
	if m.file != "" {
		path := m.file
		if rest, ok := strings.CutPrefix(path, "~"); ok {
			path = os.Getenv("HOME") + rest
		}
		data, err := os.ReadFile(path)
		if err != nil {
			path, _ = filepath.Abs(path)
			return 0, "", fmt.Errorf("AppleScript failed: Attachment not found at %s", path)
		}
		sum := sha256.Sum256(data)
		s.SHA256 = hex.EncodeToString(sum[:])
	}
	if t.fault("fail") != "" {
		return 0, "", fmt.Errorf("AppleScript failed: Messages got an error: Can’t get buddy \"%s\".", s.Buddy)
	}
	line, err := json.Marshal(s)
	if err != nil {
		return 0, "", err
	}
	f, err := os.OpenFile(filepath.Join(t.Dir, imsgtest.SentFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return 0, "", fmt.Errorf("AppleScript failed: %w", err)
	}
	_, err = f.Write(append(line, '\n'))
	if err == nil {
		err = f.Sync()
	}
	if closed := f.Close(); err == nil {
		err = closed
	}
	if err != nil {
		return 0, "", fmt.Errorf("AppleScript failed: %w", err)
	}
	if t.fault("crash-after-send") != "" {
		os.Exit(134)
	}
	t.sends++
	return 1978 + t.sends, fmt.Sprintf("8DF1B3D7-%04d", t.sends), nil
}

// normal stands for PhoneNumberKit: it knows one region and leaves alone what
// it does not understand.
func normal(number, region string) string {
	bare := strings.NewReplacer(" ", "", "-", "", "(", "", ")", "", ".", "").Replace(number)
	if (region == "" || region == "US") && len(bare) == 10 && strings.Trim(bare, "0123456789") == "" {
		return "+1" + bare
	}
	if strings.HasPrefix(bare, "+") {
		return bare
	}
	return number
}
