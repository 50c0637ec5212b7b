package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel/imsg/imsgtest"
)

// fault returns what should go wrong now, as far as it is one of those that
// are asked about here: a fault that is to happen once is used up only where
// it can happen.
func (t *tool) fault(here ...string) string {
	file := filepath.Join(t.Dir, imsgtest.FaultFile)
	text := t.Fault
	if data, err := os.ReadFile(file); err == nil {
		text = strings.TrimSpace(string(data))
	}
	text, once := strings.CutPrefix(text, "once ")
	word, _, _ := strings.Cut(text, " ")
	for _, h := range here {
		if word != h {
			continue
		}
		if once {
			t.Fault = ""
			os.Remove(file)
		}
		return text
	}
	return ""
}

// number returns the number behind a fault's name.
func number(fault string, otherwise int64) int64 {
	_, n, _ := strings.Cut(fault, " ")
	if v, err := strconv.ParseInt(n, 10, 64); err == nil {
		return v
	}
	return otherwise
}

// before does what goes wrong before a request is looked at.
func (t *tool) before(w io.Writer) {
	switch f := t.fault("hang", "crash", "huge", "garbage", "slow"); {
	case f == "":
	case f == "hang":
		for {
			time.Sleep(time.Hour)
		}
	case f == "crash":
		os.Exit(134)
	case f == "garbage":
		io.WriteString(w, "objc[77]: Class X is implemented in both Y and Z.\n")
	case strings.HasPrefix(f, "slow"):
		time.Sleep(time.Duration(number(f, 1000)) * time.Millisecond)
	default:
		huge(w, number(f, 1<<30))
	}
}

// huge writes one line of n bytes.
func huge(w io.Writer, n int64) {
	b := bufio.NewWriterSize(w, 1<<20)
	b.WriteString(`{"jsonrpc":"2.0","id":1,"result":"`)
	chunk := bytes.Repeat([]byte("x"), 1<<16)
	for ; n > 0; n -= int64(len(chunk)) {
		if _, err := b.Write(chunk[:min(n, int64(len(chunk)))]); err != nil {
			os.Exit(141)
		}
	}
	b.WriteString("\"}\n")
	b.Flush()
}
