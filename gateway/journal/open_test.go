package journal

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestOneOpener(t *testing.T) {
	dir := logDir(t)
	a, _ := openLog(t, dir, Options{}, nil)
	if _, _, err := Open(dir, Options{}); !errors.Is(err, ErrLocked) {
		t.Errorf("second opener: %v", err)
	}
	record(t, a, KindIntent, "aa")
	a.Close()
	openLog(t, dir, Options{}, nil)
}

func TestClosed(t *testing.T) {
	a, _ := openLog(t, logDir(t), Options{}, nil)
	if err := errors.Join(a.Note(Event{Kind: KindRead}), a.Close(), a.Close()); err != nil {
		t.Fatal(err)
	}
	if err := a.Record(ctx(t), event("aa")); !errors.Is(err, ErrClosed) {
		t.Errorf("record: %v", err)
	}
	if err := a.Note(event("aa")); !errors.Is(err, ErrClosed) {
		t.Errorf("note: %v", err)
	}
	if err := a.Flush(ctx(t)); err != nil {
		t.Errorf("flush: %v", err)
	}
}

// A record that cannot be is refused, and the next one is not.
func TestRecordRefuses(t *testing.T) {
	a, _ := openLog(t, logDir(t), Options{}, nil)
	if a.Record(ctx(t), Event{}) == nil || a.Note(Event{Kind: KindIntent}) == nil {
		t.Error("taken")
	}
	gone, cancel := context.WithCancel(context.Background())
	cancel()
	if err := a.Record(gone, event("aa")); !errors.Is(err, context.Canceled) {
		t.Errorf("with a context that ended: %v", err)
	}
	record(t, a, KindIntent, "bb")
	if n, _ := a.Head(); n != 2 {
		t.Errorf("%d records", n)
	}
}

func TestOpenRefusesFiles(t *testing.T) {
	make := func(t *testing.T) string {
		dir := logDir(t)
		a, _ := openLog(t, dir, Options{}, nil)
		record(t, a, KindIntent, "aa")
		if err := a.Close(); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for _, name := range []string{"entries", "hashes", "checkpoints", "key", "key.pub", "lock"} {
		t.Run("link/"+name, func(t *testing.T) {
			dir := make(t)
			path, elsewhere := filepath.Join(dir, name), filepath.Join(dir, "elsewhere")
			if err := errors.Join(os.Rename(path, elsewhere), os.Symlink("elsewhere", path)); err != nil {
				t.Fatal(err)
			}
			if a, _, err := Open(dir, Options{}); err == nil {
				a.Close()
				t.Error("a link was opened")
			}
			if _, err := Verify(dir); err == nil && name != "key" { // which Verify does not need
				t.Error("a link was verified")
			}
		})
	}
	t.Run("second name", func(t *testing.T) {
		dir := make(t)
		if err := os.Link(filepath.Join(dir, "entries"), filepath.Join(dir, "entries2")); err != nil {
			t.Fatal(err)
		}
		if a, _, err := Open(dir, Options{}); err == nil {
			a.Close()
			t.Error("opened")
		}
	})
	t.Run("link to the folder", func(t *testing.T) {
		dir := make(t)
		if err := os.Symlink(dir, dir+"2"); err != nil {
			t.Fatal(err)
		}
		for _, link := range []string{dir + "2", dir + "2/"} {
			if a, _, err := Open(link, Options{}); err == nil {
				a.Close()
				t.Errorf("%s opened", link)
			}
		}
	})
	t.Run("no folder above", func(t *testing.T) {
		if a, _, err := Open(filepath.Join(t.TempDir(), "a", "b"), Options{}); err == nil {
			a.Close()
			t.Error("opened")
		}
	})
	for _, name := range []string{"entries", "."} {
		t.Run("foreign owner/"+name, func(t *testing.T) {
			if os.Getuid() != 0 {
				t.Skip("needs root: gives a file to another user")
			}
			dir := make(t)
			if err := os.Chown(filepath.Join(dir, name), 12345, -1); err != nil {
				t.Fatal(err)
			}
			if a, _, err := Open(dir, Options{}); err == nil {
				a.Close()
				t.Error("opened")
			}
			must(t, dir) // root may look at what is not its own
		})
	}
	t.Run("open to others", func(t *testing.T) {
		dir := make(t)
		if err := errors.Join(os.Chmod(dir, 0o755), os.Chmod(filepath.Join(dir, "key"), 0o644), os.Chmod(filepath.Join(dir, "entries"), 0o644)); err != nil {
			t.Fatal(err)
		}
		openLog(t, dir, Options{}, nil)
		for _, name := range []string{".", "entries", "key"} {
			if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s: %v, %v", name, st.Mode(), err)
			}
		}
	})
	t.Run("key gone", func(t *testing.T) {
		dir := make(t)
		if err := os.Remove(filepath.Join(dir, "key")); err != nil {
			t.Fatal(err)
		}
		if a, _, err := Open(dir, Options{}); err == nil {
			a.Close()
			t.Error("a new key was made for an old log")
		}
	})
	t.Run("public key gone", func(t *testing.T) {
		dir := make(t)
		if err := os.Remove(filepath.Join(dir, "key.pub")); err != nil {
			t.Fatal(err)
		}
		a, _ := openLog(t, dir, Options{}, nil)
		a.Close()
		must(t, dir)
	})
	t.Run("public key of another log", func(t *testing.T) {
		dir := make(t)
		if err := os.WriteFile(filepath.Join(dir, "key.pub"), []byte(testKeys(t).pub+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		if a, _, err := Open(dir, Options{}); err == nil {
			a.Close()
			t.Error("opened")
		}
		if _, err := Verify(dir); err == nil {
			t.Error("verified")
		}
	})
}

// A first start that was killed half-way is finished by the next.
func TestOpenAfterHalfAStart(t *testing.T) {
	dir := logDir(t)
	a, _ := openLog(t, dir, Options{}, nil)
	a.Close()
	key := readFolder(t, dir)["key"]
	pub := readFolder(t, dir)["key.pub"]
	for i, files := range []map[string][]byte{
		{},
		{"lock": nil},
		{"lock": nil, "key.new": []byte("PRIVATE+")},
		{"lock": nil, "key": key},
		{"lock": nil, "key": key, "key.pub.new": nil},
		{"lock": nil, "key": key, "key.pub": pub},
		{"lock": nil, "key": key, "key.pub": pub, "entries": nil},
		{"lock": nil, "key": key, "key.pub": pub, "entries": nil, "checkpoints": nil, "hashes": nil},
		{"lock": nil, "key": key, "key.pub": pub, "entries": nil, "checkpoints": []byte("carapace.audit/")[:5], "hashes": nil},
	} {
		writeFolder(t, dir, files)
		b, rec, err := Open(dir, Options{})
		if err != nil {
			t.Errorf("state %d: %v", i, err)
			continue
		}
		if rec.Records != 0 {
			t.Errorf("state %d: %+v", i, rec)
		}
		b.Close()
		if r := must(t, dir); r.Records != 2 {
			t.Errorf("state %d: %+v", i, r)
		}
	}
}
