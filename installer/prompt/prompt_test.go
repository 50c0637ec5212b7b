package prompt

import (
	"bytes"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/creack/pty"
)

// person sits at a pseudo-terminal. A mute one is a pipe dressed up as a
// terminal: it never says where its cursor is.
type person struct {
	t    *testing.T
	ptmx *os.File
	tty  *os.File

	mu   sync.Mutex
	seen bytes.Buffer
	read int
}

func sit(t *testing.T, mute bool) *person {
	t.Helper()
	ptmx, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(ptmx, &pty.Winsize{Rows: 24, Cols: 80}); err != nil {
		t.Fatal(err)
	}
	p := &person{t: t, ptmx: ptmx, tty: tty}
	t.Cleanup(func() { tty.Close(); ptmx.Close() })
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := ptmx.Read(buf)
			if err != nil {
				return
			}
			p.mu.Lock()
			p.seen.Write(buf[:n])
			p.mu.Unlock()
			if !mute {
				for range bytes.Count(buf[:n], []byte(whereIsCursor)) {
					ptmx.WriteString("\x1b[5;10R")
				}
			}
		}
	}()
	return p
}

func (p *person) typing(s string) {
	if _, err := p.ptmx.WriteString(s); err != nil {
		p.t.Error(err)
	}
}

// waits until text has appeared since the last call.
func (p *person) waits(text string) {
	p.t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		p.mu.Lock()
		s := p.seen.String()[p.read:]
		i := strings.Index(s, text)
		if i >= 0 {
			p.read += i + len(text)
		}
		p.mu.Unlock()
		if i >= 0 {
			return
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.t.Errorf("%q did not appear; on the screen: %q", text, p.seen.String())
}

func terminals(t *testing.T, test func(*testing.T, *person, *Terminal)) {
	for _, mute := range []bool{false, true} {
		name := "answering"
		if mute {
			name = "mute"
		}
		t.Run(name, func(t *testing.T) {
			p := sit(t, mute)
			term, err := NewTerminal(p.tty, p.tty, false)
			if err != nil {
				t.Fatal(err)
			}
			test(t, p, term)
		})
	}
}

func TestTerminal(t *testing.T) {
	terminals(t, func(t *testing.T, p *person, term *Terminal) {
		go func() {
			p.waits("Go on?")
			p.typing("?\r")
			p.waits("why: because")
			p.typing("\r")
			p.waits("Name?")
			p.typing("bad\r")
			p.waits("no such name")
			p.typing("\x7f\x7f\x7fgood\r")
			p.waits("Then?")
			p.typing("e\r")
			p.waits("Again?")
			p.typing("\r")
		}()
		if ok, err := term.Confirm("Go on?", "because", true); !ok || err != nil {
			t.Errorf("Confirm: %v, %v", ok, err)
		}
		name, err := term.Input("Name?", "", "", func(s string) error {
			if s != "good" {
				return errors.New("no such name")
			}
			return nil
		})
		if name != "good" || err != nil {
			t.Errorf("Input: %q, %v", name, err)
		}
		if w, err := term.Choose("Then?", "", "yes", "no", "explain"); w != "explain" || err != nil {
			t.Errorf("Choose: %q, %v", w, err)
		}
		if w, err := term.Choose("Again?", "", "yes", "no", "explain"); w != "yes" || err != nil {
			t.Errorf("Choose by default: %q, %v", w, err)
		}
	})
}

// TestTypedAhead types all answers before the first question.
func TestTypedAhead(t *testing.T) {
	terminals(t, func(t *testing.T, p *person, term *Terminal) {
		p.typing("alice\nn\nR2D2R\ny\n")
		var got []string
		for range 3 {
			switch len(got) {
			case 1:
				ok, err := term.Confirm("sure?", "", true)
				if err != nil || ok {
					t.Errorf("Confirm: %v, %v", ok, err)
				}
				got = append(got, "no")
			default:
				s, err := term.Input("who?", "", "", nil)
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, s)
			}
		}
		if s := strings.Join(got, " "); s != "alice no R2D2R" {
			t.Errorf("got %q", s)
		}
		if ok, err := term.Confirm("really?", "", false); err != nil || !ok {
			t.Errorf("Confirm: %v, %v", ok, err)
		}
	})
}

func TestInterrupt(t *testing.T) {
	for _, keys := range []string{"\x03", "\x04", "ye\x04", "ye\x03"} {
		terminals(t, func(t *testing.T, p *person, term *Terminal) {
			go func() {
				p.waits("Go on?")
				p.typing(keys)
				p.waits("Name?")
				p.typing(keys)
				p.waits("Then?")
				p.typing(keys)
			}()
			if _, err := term.Confirm("Go on?", "", true); !errors.Is(err, ErrInterrupted) {
				t.Errorf("Confirm, %q: got %v, want ErrInterrupted", keys, err)
			}
			if _, err := term.Input("Name?", "", "x", nil); !errors.Is(err, ErrInterrupted) {
				t.Errorf("Input, %q: got %v, want ErrInterrupted", keys, err)
			}
			if _, err := term.Choose("Then?", "", "yes", "no"); !errors.Is(err, ErrInterrupted) {
				t.Errorf("Choose, %q: got %v, want ErrInterrupted", keys, err)
			}
		})
	}
}

func TestNoTerminal(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	if _, err := NewTerminal(r, w, false); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("got %v, want ErrNoTerminal", err)
	}
}

func TestScripted(t *testing.T) {
	s := &Scripted{Answers: map[string]string{"a?": "yes", "b?": "", "c?": "n", "d?": "x"}}
	if ok, err := s.Confirm("a?", "", false); !ok || err != nil {
		t.Errorf("a: %v, %v", ok, err)
	}
	if v, err := s.Input("b?", "", "default", nil); v != "default" || err != nil {
		t.Errorf("b: %q, %v", v, err)
	}
	if w, err := s.Choose("c?", "", "yes", "no"); w != "no" || err != nil {
		t.Errorf("c: %q, %v", w, err)
	}
	if _, err := s.Choose("d?", "", "yes", "no"); err == nil {
		t.Error("d: x was taken for an answer")
	}
	if _, err := s.Confirm("e?", "", true); err == nil {
		t.Error("a question without an answer was answered")
	}
}
