package wire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"
)

func sum(b []byte) string {
	s := sha256.Sum256(b)
	return hex.EncodeToString(s[:])
}

func entries(t testing.TB, s *Stage) int {
	t.Helper()
	e, err := os.ReadDir(s.dir)
	if err != nil {
		t.Fatal(err)
	}
	return len(e)
}

func TestStage(t *testing.T) {
	s := newStage(t, Limits{})
	f := s.Files(1000)
	body := bytes.Repeat([]byte("0123456789"), 50000)
	h, err := f.Open("photo é.png", int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	for part := body; len(part) > 0; {
		n := min(maxChunk, len(part))
		if err := f.Data(h, part[:n]); err != nil {
			t.Fatal(err)
		}
		part = part[n:]
	}
	if len(f.All()) != 0 {
		t.Error("half a file is shown")
	}
	got, err := f.Close(h, sum(body))
	if err != nil {
		t.Fatal(err)
	}
	if want := (StagedFile{h, "photo é.png", int64(len(body)), sum(body), got.Path}); got != want || f.All()[h] != want {
		t.Errorf("%+v", got)
	}
	if b, err := os.ReadFile(got.Path); err != nil || !bytes.Equal(b, body) || filepath.Base(got.Path) != got.Name {
		t.Errorf("%s: %v", got.Path, err)
	}
	for path, want := range map[string]fs.FileMode{got.Path: 0o600, filepath.Dir(got.Path): fs.ModeDir | 0o700, s.dir: fs.ModeDir | 0o700} {
		if info, err := os.Lstat(path); err != nil || info.Mode() != want {
			t.Errorf("%s: %v, %v", path, info.Mode(), err)
		}
	}
	h2, _ := f.Open(got.Name, 0) // the same name again, and empty
	if got, err := f.Close(h2, sum(nil)); err != nil || h2 == h || got.Size != 0 {
		t.Errorf("%+v, %v", got, err)
	}
	if err := f.Data(h, []byte("x")); err == nil {
		t.Error("a whole file was written to")
	}
	if _, err := f.Close(h, sum(body)); err == nil {
		t.Error("a file was closed twice")
	}
	f.Release()
	f.Release()
	if n := entries(t, s); n != 0 || len(s.use) != 0 || len(f.All()) != 0 {
		t.Errorf("%d left, %v in use", n, s.use)
	}
	if _, err := f.Open("late", 1); err == nil {
		t.Error("a file was opened after the end")
	}
}

func TestStageRefuses(t *testing.T) {
	s := newStage(t, Limits{FileBytes: 1000})
	f := s.Files(1000)
	defer f.Release()
	for _, name := range []string{"", ".", "..", ".hidden", "-rf", "a/b", "../x", "/etc/passwd", `a\b`, "a\x00b", "a\nb", "a\x1b[0m",
		"\u202egnp.exe", "a\u200bb", "\xff", strings.Repeat("x", 256)} {
		if _, err := f.Open(name, 1); ExitCode(err) != ExitUsage {
			t.Errorf("name %q: %v", name, err)
		}
	}
	for _, size := range []int64{-1, 1001, 1 << 62} {
		if _, err := f.Open("a", size); ExitCode(err) != ExitUsage {
			t.Errorf("size %d: %v", size, err)
		}
	}
	open := func(size int64) string {
		t.Helper()
		h, err := f.Open(strings.Repeat("x", 255), size)
		if err != nil {
			t.Fatal(err)
		}
		return h
	}
	if err := f.Data(open(3), []byte("four")); err == nil {
		t.Error("longer than announced")
	}
	h := open(3)
	f.Data(h, []byte("tw"))
	if _, err := f.Close(h, sum([]byte("tw"))); err == nil {
		t.Error("shorter than announced")
	}
	for _, wrong := range []string{"", sum([]byte("other")), strings.ToUpper(sum([]byte("abc")))} {
		h = open(3)
		f.Data(h, []byte("abc"))
		if _, err := f.Close(h, wrong); err == nil {
			t.Errorf("hash %q was taken", wrong)
		}
	}
	for _, h := range []string{"", "file:99", "../x"} {
		if f.Data(h, nil) == nil {
			t.Errorf("handle %q takes data", h)
		}
		if _, err := f.Close(h, sum(nil)); err == nil {
			t.Errorf("handle %q can be closed", h)
		}
	}
	if n := entries(t, s); n != 0 || len(s.use) != 0 {
		t.Errorf("%d left, %v in use", n, s.use)
	}
	var none *Files
	if _, err := none.Open("a", 1); err == nil || none.All() != nil {
		t.Error("no files take files")
	}
	none.Release()
}

// One user's transfers are counted over all connections; another's are not
// touched by them.
func TestStageLimits(t *testing.T) {
	s := newStage(t, Limits{FileBytes: 100, FileCount: 3})
	a, b, other := s.Files(1000), s.Files(1000), s.Files(1001)
	defer other.Release()
	must := func(f *Files, size int64, ok bool) string {
		t.Helper()
		h, err := f.Open("x", size)
		if (err == nil) != ok || err != nil && ExitCode(err) != ExitTryLater {
			t.Fatalf("%v", err)
		}
		return h
	}
	must(a, 60, true)
	h := must(b, 40, true)
	must(b, 1, false)
	must(b, 0, true)
	must(a, 0, false)
	must(other, 100, true)
	b.Close(h, "wrong")
	must(a, 41, false)
	must(a, 40, true)
	a.Release()
	b.Release()
	must(s.Files(1000), 100, true)
}

func TestStageTTL(t *testing.T) {
	s := newStage(t, Limits{FileTTL: 50 * time.Millisecond})
	f := s.Files(1000)
	f.Open("half", 10)
	h, _ := f.Open("whole", 0)
	f.Close(h, sum(nil))
	eventually(t, func() bool { return entries(t, s) == 0 })
	eventually(t, func() bool { s.mu.Lock(); defer s.mu.Unlock(); return len(s.use) == 0 })
	if len(f.All()) != 0 {
		t.Error("an expired file is shown")
	}
}

func TestNewStage(t *testing.T) {
	dir := shortDir(t)
	stage := filepath.Join(dir, "stage")
	s, err := NewStage(stage, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	s.Files(1).Open("left", 10) // and never released: a crash
	os.WriteFile(filepath.Join(stage, "foreign"), nil, 0o600)
	if n := entries(t, s); n != 2 {
		t.Fatal(n)
	}
	s.Close()
	s, err = NewStage(stage, Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if n := entries(t, s); n != 1 {
		t.Errorf("%d left after a crash", n)
	}
	s.Close()
	os.Chmod(stage, 0o750)
	if _, err := NewStage(stage, Limits{}); err == nil {
		t.Error("an open folder was taken")
	}
	os.Symlink(dir, filepath.Join(dir, "link"))
	if _, err := NewStage(filepath.Join(dir, "link"), Limits{}); err == nil {
		t.Error("a link was taken")
	}
	if _, err := NewStage("stage", Limits{}); err == nil {
		t.Error("a relative path was taken")
	}
	if _, err := NewStage(filepath.Join(dir, "no", "parent"), Limits{}); err == nil {
		t.Error("a folder without a parent was made")
	}
}

// The counts are right whatever is done in whatever order.
func TestStageProperty(t *testing.T) {
	s := newStage(t, Limits{FileBytes: 50, FileCount: 4})
	rapid.Check(t, func(rt *rapid.T) {
		sets := []*Files{s.Files(1), s.Files(1), s.Files(2)}
		for range rapid.IntRange(0, 30).Draw(rt, "steps") {
			f := sets[rapid.IntRange(0, 2).Draw(rt, "set")]
			h := fmt.Sprintf("file:%d", rapid.IntRange(0, 6).Draw(rt, "file"))
			switch rapid.IntRange(0, 2).Draw(rt, "do") {
			case 0:
				f.Open("x", rapid.Int64Range(0, 60).Draw(rt, "size"))
			case 1:
				f.Data(h, make([]byte, rapid.IntRange(0, 20).Draw(rt, "bytes")))
			case 2:
				f.Close(h, sum(nil))
			}
			want := map[uint32]usage{}
			for _, f := range sets {
				for _, file := range f.all {
					u := want[f.uid]
					want[f.uid] = usage{u.count + 1, u.bytes + file.Size}
				}
			}
			for uid, u := range s.use {
				if want[uid] != u || u.count > 4 || u.bytes > 50 {
					rt.Fatalf("uid %d uses %v, and is charged with %v", uid, want[uid], u)
				}
			}
			if len(want) != len(s.use) {
				rt.Fatalf("used %v, charged %v", want, s.use)
			}
		}
		for _, f := range sets {
			f.Release()
		}
		if len(s.use) != 0 || entries(t, s) != 0 {
			rt.Fatalf("left: %v", s.use)
		}
	})
}

// Files over the wire, by the client and by hand.
func TestSendFile(t *testing.T) {
	stage := newStage(t, Limits{FileCount: 2})
	path := serve(t, &Server{Stage: stage})
	c := dialed(t, path)
	for size := range []int64{0, 1, maxChunk / 4, 2*maxChunk + 1} {
		body := bytes.Repeat([]byte{'x'}, size)
		c := dialed(t, path)
		h, err := c.SendFile(t.Context(), "a.bin", int64(size), bytes.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		if err := c.Call(t.Context(), "files", nil, &got); err != nil || len(got) != 1 || got[0] != fmt.Sprintf("%s a.bin %d", h, size) {
			t.Fatalf("%v, %v", got, err)
		}
		c.Close()
		eventually(t, func() bool { return entries(t, stage) == 0 })
	}
	if _, err := c.SendFile(t.Context(), "a", 3, strings.NewReader("ab")); err == nil || !strings.Contains(err.Error(), "shorter") {
		t.Error(err)
	}
	if _, err := c.SendFile(t.Context(), "a", 3, strings.NewReader("abcd")); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Error(err)
	}
	if _, err := c.SendFile(t.Context(), "a", 3, strings.NewReader("abc")); ExitCode(err) != ExitTryLater {
		t.Errorf("too many: %v", err)
	}
	if _, err := c.SendFile(t.Context(), "../a", 3, strings.NewReader("abc")); ExitCode(err) != ExitUsage {
		t.Errorf("a path: %v", err)
	}
	c.Close()
	eventually(t, func() bool { return entries(t, stage) == 0 })

	c = dialed(t, path)
	var opened fileOpenResult
	if err := c.Call(t.Context(), "file.open", map[string]any{"name": "a", "size": 3}, &opened); err != nil || opened.File != "file:1" {
		t.Fatal(opened, err)
	}
	for name, params := range map[string]string{
		"not base64":      `{"file":"file:1","data":"???"}`,
		"no padding":      `{"file":"file:1","data":"YWI"}`,
		"line ends":       `{"file":"file:1","data":"YW\nI="}`,
		"trailing bits":   `{"file":"file:1","data":"YWJ="}`,
		"no data":         `{"file":"file:1"}`,
		"unknown member":  `{"file":"file:1","data":"","x":1}`,
		"too much":        `{"file":"file:1","data":"` + strings.Repeat("AAAA", maxChunk/3+1) + `"}`,
		"another's":       `{"file":"file:2","data":""}`,
		"handle a number": `{"file":1,"data":""}`,
	} {
		err := c.Call(t.Context(), "file.data", jsonRaw(params), nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeInvalidParams {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, params := range []string{`{"name":"a"}`, `{"size":1}`, `{"name":"a","size":null}`, `{"name":"a","size":"1"}`, `{"name":"a","size":1.5}`, `{"name":"a","size":1,"path":"/etc"}`} {
		err := c.Call(t.Context(), "file.open", jsonRaw(params), nil)
		if e, ok := errors.AsType[*Error](err); !ok || e.Code != CodeInvalidParams {
			t.Errorf("%s: %v", params, err)
		}
	}
	if err := c.Call(context.Background(), "ping", nil, nil); err != nil {
		t.Error(err)
	}
}
