package probe

import (
	"strings"
	"testing"
)

func TestHidepid(t *testing.T) {
	for mounts, want := range map[string]string{
		"proc /proc proc rw,nosuid 0 0\n":                                            "",
		"proc /proc proc rw,hidepid=2,gid=4 0 0\n":                                   "2",
		"proc /proc proc rw,hidepid=invisible 0 0\n":                                 "invisible",
		"proc /srv/proc proc rw,hidepid=2 0 0\nproc /proc proc rw 0 0\n":             "",
		"proc /proc proc rw,hidepid=2 0 0\nproc /proc proc rw 0 0\n":                 "",
		"tmpfs /proc tmpfs rw,hidepid=2 0 0\n":                                       "",
		"proc /proc proc rw 0 0\nproc /proc proc rw,relatime,hidepid=ptraceable 0 0": "ptraceable",
	} {
		if got := hidepid(mounts); got != want {
			t.Errorf("%q: %q, want %q", mounts, got, want)
		}
	}
}

func FuzzHidepid(f *testing.F) {
	f.Add("proc /proc proc rw,hidepid=2 0 0\n")
	f.Fuzz(func(t *testing.T, mounts string) {
		if got := hidepid(mounts); !strings.Contains(mounts, got) || strings.ContainsAny(got, ", \n") {
			t.Fatalf("%q", got)
		}
	})
}
