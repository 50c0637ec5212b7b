package plan

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestGoldenReceipts reads every receipt that a released version has written.
// They must be readable for ever, and writing one back loses nothing.
func TestGoldenReceipts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden receipts: %v", err)
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		r, err := ParseReceipt(data)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		back, err := MarshalReceipt(r)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(string(data), string(back)); d != "" {
			t.Errorf("%s changes when it is written back (-want +got):\n%s", name, d)
		}
	}
}

func TestParseReceiptRefuses(t *testing.T) {
	entry := `{"kind":"dir","key":"/a","title":"t","change":"make","state":"applied","data":{}}`
	for name, text := range map[string]string{
		"nothing":         ``,
		"no object":       `[]`,
		"no schema":       `{"steps":[]}`,
		"newer schema":    `{"schema":2,"version":"9","surprise":true}`,
		"unknown member":  `{"schema":1,"surprise":true,"steps":[]}`,
		"unknown state":   `{"schema":1,"steps":[` + strings.Replace(entry, "applied", "dreamt", 1) + `]}`,
		"unknown change":  `{"schema":1,"steps":[` + strings.Replace(entry, "make", "break", 1) + `]}`,
		"no key":          `{"schema":1,"steps":[` + strings.Replace(entry, "/a", "", 1) + `]}`,
		"one thing twice": `{"schema":1,"steps":[` + entry + `,` + entry + `]}`,
		"something after": `{"schema":1,"steps":[]} {}`,
		"cut off":         `{"schema":1,"steps":[` + entry,
	} {
		if _, err := ParseReceipt([]byte(text)); !errors.Is(err, ErrReceipt) {
			t.Errorf("%s: got %v, want ErrReceipt", name, err)
		}
	}
	_, err := ParseReceipt([]byte(`{"schema":2,"version":"9"}`))
	if hints := Hints(err); len(hints) != 1 || !strings.Contains(hints[0], `"9"`) {
		t.Errorf("the hint %q does not name the version that can read it", hints)
	}
}

func FuzzParseReceipt(f *testing.F) {
	files, _ := filepath.Glob("testdata/*.json")
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(`{"schema":1,"steps":[{"kind":"dir","key":"/a","title":"t","change":"make","state":"applied","data":{}}]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := ParseReceipt(data)
		if err != nil {
			if !errors.Is(err, ErrReceipt) {
				t.Fatalf("%v does not wrap ErrReceipt", err)
			}
			return
		}
		back, err := MarshalReceipt(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseReceipt(back); err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, back)
		}
	})
}

func TestFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "setup")
	unlock, err := Lock(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Lock(dir); !errors.Is(err, ErrBusy) {
		t.Errorf("a second lock: got %v, want ErrBusy", err)
	}
	store := &File{Path: filepath.Join(dir, "receipt.json")}
	if r, err := store.Load(); r != nil || err != nil {
		t.Errorf("no receipt: got %v, %v", r, err)
	}
	if err := os.WriteFile(store.Path+".new", []byte("left by a kill"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := store.Sweep(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(store.Path + ".new"); !os.IsNotExist(err) {
		t.Errorf("what a kill left is still there: %v", err)
	}
	if err := os.WriteFile(store.Path+".new", []byte("left by another kill"), 0o600); err != nil {
		t.Fatal(err)
	}
	want := &Receipt{Schema: Schema, Header: Header{Version: "1", Clients: []string{"a"}}, Steps: []Entry{}}
	if err := store.Save(want); err != nil {
		t.Fatal(err)
	}
	got, err := store.Load()
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	info, err := os.Stat(store.Path)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", info.Mode(), err)
	}
	unlock()
	if _, err := os.Stat(dir); err != nil {
		t.Errorf("the folder went with a receipt in it: %v", err)
	}
	if unlock, err = Lock(dir); err != nil {
		t.Fatal(err)
	}
	if err := store.Remove(); err != nil {
		t.Fatal(err)
	}
	unlock()
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the empty folder is still there: %v", err)
	}
}

func TestFileRefuses(t *testing.T) {
	dir := t.TempDir()
	good := []byte(`{"schema":1,"steps":[]}`)
	real := filepath.Join(dir, "real")
	if err := os.WriteFile(real, good, 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	open := filepath.Join(dir, "open")
	if err := os.WriteFile(open, good, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(open, 0o622); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{link, open, dir} {
		if _, err := (&File{Path: name}).Load(); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}

func TestHints(t *testing.T) {
	err := &ConflictError{Conflicts: []Trouble{
		{"a", WithHint(errors.New("x"), "one", "two")},
		{"b", WithHint(WithHint(errors.New("y"), "two"), "three")},
	}}
	if d := cmp.Diff([]string{"one", "two", "three"}, Hints(err)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}
