package journal

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What was deleted is nowhere in the files.
func TestPurgeOverwrites(t *testing.T) {
	path := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, path, OutboxOptions{KeepContent: true})
	secret := func(id string) string { return strings.Repeat("SECRET"+id+" ", 2000) }
	for id, s := range map[string]State{"a1": StateRefused, "a2": StateRefused, "h1": StateHeld, "h2": StateHeld, "s1": StateSending} {
		l := letter(id, s)
		l.Body = secret(id)
		mustAdd(t, o, l)
	}
	inFiles := func(id string) bool {
		for _, suffix := range []string{"", "-wal"} {
			b, err := os.ReadFile(path + suffix)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("SECRET"+id)) {
				return true
			}
		}
		return false
	}
	if !inFiles("a1") || !inFiles("h1") {
		t.Fatal("the test does not find what is there")
	}
	if n, err := o.Purge(ctx(t), "h1"); err != nil || n != 1 {
		t.Error(n, err)
	}
	if n, err := o.Purge(ctx(t), ""); err != nil || n != 2 {
		t.Error(n, err)
	}
	if _, err := o.Purge(ctx(t), "s1"); !errors.Is(err, ErrWrongState) {
		t.Errorf("a letter on its way: %v", err)
	}
	if _, err := o.Purge(ctx(t), "zz"); !errors.Is(err, ErrNotFound) {
		t.Errorf("no letter: %v", err)
	}
	for id, want := range map[string]bool{"a1": false, "a2": false, "h1": false, "h2": true, "s1": true} {
		if inFiles(id) != want {
			t.Errorf("the body of %s is in the files: %v", id, !want)
		}
	}
}

// With content: metadata no body ever reaches the disk.
func TestMetadataOnly(t *testing.T) {
	dir := t.TempDir()
	o := openOutbox(t, filepath.Join(dir, "outbox.db"), OutboxOptions{KeepContent: false})
	for id, s := range map[string]State{"aa": StateHeld, "bb": StateRefused} {
		l := letter(id, s)
		l.Body, l.Operation = "SECRET", []byte("SECRET")
		mustAdd(t, o, l)
	}
	if _, err := o.Later(Letter{ID: "cc", Body: "SECRET"}); err != nil {
		t.Fatal(err)
	}
	if err := o.Flush(ctx(t)); err != nil {
		t.Fatal(err)
	}
	for name, b := range readFolder(t, dir) {
		if bytes.Contains(b, []byte("SECRET")) {
			t.Errorf("the body is in %s", name)
		}
		if st, err := os.Stat(filepath.Join(dir, name)); err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v, %v", name, st.Mode(), err)
		}
	}
}

// A damaged database is moved aside whole, said so, and does not stop the
// gateway, however often it starts.
func TestOutboxDamaged(t *testing.T) {
	made := filepath.Join(t.TempDir(), "outbox.db")
	o := openOutbox(t, made, OutboxOptions{KeepContent: true})
	for i := range 200 {
		mustAdd(t, o, letter(fmt.Sprint("l", i), StateHeld))
	}
	o.Close()
	good, err := os.ReadFile(made)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]func() []byte{
		"no database": func() []byte {
			return []byte("this is no database, but it is longer than a header of one would be, and more\n")
		},
		"cut":   func() []byte { return good[:len(good)/2/4096*4096+100] },
		"zeros": func() []byte { b := bytes.Clone(good); clear(b[4096 : 3*4096]); return b },
		"noise": func() []byte {
			b := bytes.Clone(good)
			for i := 4096; i < len(b); i += 50 {
				b[i] ^= 0x5a
			}
			return b
		},
		"another database": func() []byte { b := bytes.Clone(good); b[68] ^= 1; return b },
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "outbox.db")
			var log bytes.Buffer
			for round := range 2 {
				if err := os.WriteFile(path, damage(), 0o600); err != nil {
					t.Fatal(err)
				}
				o, err := OpenOutbox(path, OutboxOptions{Log: slog.New(slog.NewTextHandler(&log, nil))})
				if err != nil {
					t.Fatal(err)
				}
				if n := len(list(t, o)); n != 0 {
					t.Errorf("%d letters in a new outbox", n)
				}
				mustAdd(t, o, letter("new", StateHeld))
				if err := o.Close(); err != nil {
					t.Fatal(err)
				}
				aside := 0
				for file, b := range readFolder(t, dir) {
					if strings.HasPrefix(file, "outbox.db.damaged-") && !strings.HasSuffix(file, "-wal") && !strings.HasSuffix(file, "-shm") {
						if aside++; !bytes.Equal(b, damage()) {
							t.Errorf("%s is not what was there", file)
						}
					}
				}
				if aside != round+1 {
					t.Errorf("%d databases aside", aside)
				}
			}
			if !strings.Contains(log.String(), "moved aside") {
				t.Errorf("log: %s", log.String())
			}
		})
	}
}

func TestOutboxRefusesFiles(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "outbox.db")
	o := openOutbox(t, path, OutboxOptions{})
	if _, err := o.db.Exec("PRAGMA user_version = 2"); err != nil {
		t.Fatal(err)
	}
	o.Close()
	if _, err := OpenOutbox(path, OutboxOptions{}); err == nil || damaged(err) {
		t.Errorf("a later version: %v", err)
	}
	if err := os.Symlink(path, path+"2"); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenOutbox(path+"2", OutboxOptions{}); err == nil {
		t.Error("a link was opened")
	}
	if _, err := OpenOutbox(filepath.Join(dir, "none", "outbox.db"), OutboxOptions{}); err == nil {
		t.Error("opened in a folder that is not there")
	}
	if files := readFolder(t, dir); len(files) != 2 {
		t.Errorf("%d files", len(files))
	}
	t.Run("foreign owner", func(t *testing.T) {
		if os.Getuid() != 0 {
			t.Skip("needs root: gives a file to another user")
		}
		if err := os.Chown(path, 12345, -1); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenOutbox(path, OutboxOptions{}); err == nil || damaged(err) {
			t.Errorf("another user's file: %v", err)
		}
	})
}
