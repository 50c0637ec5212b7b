package main

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"
)

func (t *tool) cliSend(a args) error {
	t.before(os.Stdout)
	m := message{text: a.last("text"), file: a.last("file"), service: "auto", region: "US"}
	m.to, m.identifier, m.guid = a.last("to"), a.last("chat-identifier"), a.last("chat-guid")
	if id, err := strconv.ParseInt(a.last("chat-id"), 10, 64); err == nil {
		m.chatID = &id
	}
	if len(a["service"]) > 0 {
		m.service = a.last("service")
	}
	if len(a["region"]) > 0 {
		m.region = a.last("region")
	}
	switch {
	case m.chat() && m.to != "":
		return errors.New("Invalid value for option: --to")
	case !m.chat() && m.to == "":
		return errors.New("Missing required option: --to")
	}
	if !m.chat() && contactName(m.to) {
		handle, err := t.lookUp(m.to)
		if err != nil {
			return err
		}
		m.to = handle
	}
	if m.text == "" && m.file == "" {
		return errors.New("Missing required option: --text or file")
	}
	if m.service != "auto" && m.service != "imessage" && m.service != "sms" {
		return fmt.Errorf("Invalid service: %s", m.service)
	}
	if m.chatID != nil {
		chat := t.chatByID(*m.chatID)
		if chat == nil {
			return fmt.Errorf("Invalid chat target: Unknown chat id %d", *m.chatID)
		}
		m.identifier, m.guid = chat.Identifier, chat.GUID
	}
	if _, _, err := t.perform(m); err != nil {
		return err
	}
	if a["json"] != nil {
		fmt.Println(`{"status":"sent"}`)
	} else {
		fmt.Println("sent")
	}
	return nil
}

func (t *tool) cliChats(a args) error {
	t.before(os.Stdout)
	limit := 20
	if n, err := strconv.Atoi(a.last("limit")); err == nil {
		limit = n
	}
	for i, c := range t.Chats {
		if limit >= 0 && i >= limit {
			break
		}
		if a["json"] == nil {
			name := c.Name
			if contact := t.contact(c.Identifier); contact != "" && !group(c) {
				name = contact
			}
			fmt.Printf("[%d] %s (%s) last=%s\n", c.ID, name, c.Identifier, c.LastMessageAt)
			continue
		}
		row := t.chatRow(c)
		row["display_name"] = c.Name
		for k, v := range map[string]string{"account_id": c.AccountID, "account_login": c.AccountLogin, "last_addressed_handle": c.LastAddressedHandle} {
			if v != "" {
				row[k] = v
			}
		}
		os.Stdout.Write(append(encode(row, false), '\n'))
	}
	return nil
}

func (t *tool) cliHistory(a args) error {
	t.before(os.Stdout)
	id, err := strconv.ParseInt(a.last("chat-id"), 10, 64)
	if err != nil {
		return errors.New("Missing required option: --chat-id")
	}
	limit := 50
	if n, err := strconv.Atoi(a.last("limit")); err == nil {
		limit = n
	}
	var people []string
	for _, p := range a["participants"] {
		for one := range strings.SplitSeq(p, ",") {
			if one != "" {
				people = append(people, one)
			}
		}
	}
	f := filter{people: people}
	for _, b := range []struct {
		name string
		at   **time.Time
	}{{"start", &f.start}, {"end", &f.end}} {
		if len(a[b.name]) == 0 {
			continue
		}
		when, err := time.Parse(time.RFC3339, a.last(b.name))
		if err != nil {
			return fmt.Errorf("Invalid ISO8601 date: %s", a.last(b.name))
		}
		*b.at = &when
	}
	for _, m := range t.messages(id, limit, f) {
		if a["json"] != nil {
			os.Stdout.Write(append(encode(t.messageRow(m, true), true), '\n'))
			continue
		}
		direction, sender := "recv", m.Sender
		if m.FromMe {
			direction = "sent"
		} else if name := t.contact(m.Sender); name != "" {
			sender = name
		}
		fmt.Printf("%s [%s] %s: %s\n", m.CreatedAt, direction, sender, m.Text)
		if n := len(m.Attachments); n > 0 && a["attachments"] == nil {
			s := "s"
			if n == 1 {
				s = ""
			}
			fmt.Printf("  (%d attachment%s)\n", n, s)
		} else {
			for _, f := range m.Attachments {
				fmt.Printf("  attachment: name=%s mime=%s missing=%t path=%s\n", f.TransferName, f.MIME, f.Missing, f.OriginalPath)
			}
		}
	}
	return nil
}
