package journal

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// smallDisk mounts a disk of so many KiB.
func smallDisk(t *testing.T, kib int) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: mounts a small file system")
	}
	dir := t.TempDir()
	if err := unix.Mount("cptest", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, fmt.Sprintf("size=%dk,mode=0700", kib)); err != nil {
		t.Skipf("needs root that may mount: %v", err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, unix.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves no room on the disk; the function that is returned makes some.
func fill(t *testing.T, dir string) func() {
	t.Helper()
	path := filepath.Join(dir, "ballast")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	for size := 64 << 10; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	f.Close()
	return func() {
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
}

// A full disk denies, and the log goes on by itself when there is room.
func TestFullDiskAudit(t *testing.T) {
	disk := smallDisk(t, 512)
	dir := filepath.Join(disk, "audit")
	a, _ := openLog(t, dir, Options{Checkpoint: 10}, nil)
	record(t, a, KindIntent, "first")
	for range 3 {
		free := fill(t, disk)
		taken := 1
		for err := error(nil); err == nil; taken++ {
			if err = a.Record(ctx(t), event("filling")); err != nil && !errors.Is(err, syscall.ENOSPC) {
				t.Fatal(err)
			}
		}
		if err := a.Record(ctx(t), event("denied")); !errors.Is(err, syscall.ENOSPC) {
			t.Errorf("record on a full disk: %v", err)
		}
		if err := a.Err(); err != nil {
			t.Fatalf("the log gave up: %v", err)
		}
		must(t, dir)
		free()
		record(t, a, KindIntent, "after")
	}
	if err := a.Close(); err != nil {
		t.Fatal(err)
	}
	must(t, dir)
	// Nor does a full disk at the start harm it.
	free := fill(t, disk)
	before := must(t, dir)
	if b, _, err := Open(dir, Options{}); err == nil {
		// There may have been room for one record.
		b.Close()
	} else if !errors.Is(err, syscall.ENOSPC) {
		t.Error(err)
	}
	if r := must(t, dir); r.Records < before.Records {
		t.Errorf("%+v, was %+v", r, before)
	}
	free()
	b, _ := openLog(t, dir, Options{}, nil)
	record(t, b, KindIntent, "after")
}

// A full disk is an error for letters that must be durable, keeps those that
// nobody waits for, and harms none that are there.
func TestFullDiskOutbox(t *testing.T) {
	disk := smallDisk(t, 2048)
	o := openOutbox(t, filepath.Join(disk, "outbox.db"), OutboxOptions{KeepContent: true})
	body := string(make([]byte, 10000))
	if err := o.Add(ctx(t), Letter{ID: "first", State: StateHeld, Body: body}); err != nil {
		t.Fatal(err)
	}
	free := fill(t, disk)
	var err error
	for i := 0; i < 1000 && err == nil; i++ {
		err = o.Add(ctx(t), Letter{ID: fmt.Sprint("a", i), State: StateHeld, Body: body})
	}
	if err == nil {
		t.Fatal("the disk was never full")
	}
	if _, err := o.Later(Letter{ID: "kept", Digest: "d", Body: body}); err != nil {
		t.Fatal(err)
	}
	if err := o.Flush(ctx(t)); err == nil {
		t.Error("flushed to a full disk")
	}
	if _, err := o.Later(Letter{ID: "late", Digest: "e"}); err == nil {
		t.Error("a letter was taken that cannot be written")
	}
	if l, err := o.Get(ctx(t), "first"); err != nil || l.Body != body {
		t.Errorf("%d bytes, %v", len(l.Body), err)
	}
	free()
	until(t, "the kept letter is there", func() bool { has, err := o.Has(ctx(t), "kept"); return err == nil && has })
	if err := o.Add(ctx(t), Letter{ID: "after", State: StateHeld, Body: body}); err != nil {
		t.Error(err)
	}
	if err := o.Close(); err != nil {
		t.Error(err)
	}
}
