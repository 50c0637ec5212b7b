package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
)

// InstallFacts is share/install.json (interface §2): what an installation says
// about itself. It holds no secret and no list.
type InstallFacts struct {
	Version     string        `json:"version"`
	Prefix      string        `json:"prefix"`
	ServiceUser string        `json:"service_user"`
	ServiceUID  uint32        `json:"service_uid"`
	Socket      string        `json:"socket"`
	AdminSocket string        `json:"admin_socket"`
	Spool       string        `json:"spool"`
	Clients     []string      `json:"clients"`
	Files       []InstallFile `json:"files"`
}

// InstallFile is one file that the installer put there.
type InstallFile struct {
	Path   string `json:"path"`
	SHA256 string `json:"sha256"`
}

// maxFacts bounds the file; a real one has a few kilobytes.
const maxFacts = 1 << 20

// ReadInstallFacts reads the facts at path. The file must be regular, no link,
// root's or the calling user's own (root's alone for root), and writable by
// its owner alone; service_uid and absolute sockets must be in it. Members
// that this version does not know are left out, so that programs of two
// versions can stand beside each other during an upgrade.
func ReadInstallFacts(path string) (*InstallFacts, error) {
	text, err := readFactsFile(path)
	if err == nil {
		_, err = parseFacts(text)
	}
	facts := new(InstallFacts)
	if err == nil {
		err = json.Unmarshal(text, facts)
	}
	if err != nil {
		return nil, fmt.Errorf("installation facts %s: %w", path, err)
	}
	return facts, nil
}

// readFactsFile uses system calls alone, for the reason given at socket.
func readFactsFile(path string) ([]byte, error) {
	fd, err := syscall.Open(path, syscall.O_RDONLY|syscall.O_CLOEXEC|syscall.O_NOFOLLOW|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(fd)
	var st syscall.Stat_t
	if err := syscall.Fstat(fd, &st); err != nil {
		return nil, err
	}
	switch {
	case st.Mode&syscall.S_IFMT != syscall.S_IFREG:
		return nil, errors.New("not a regular file")
	case st.Uid != 0 && int(st.Uid) != os.Geteuid():
		return nil, errors.New("neither root's nor this user's")
	case st.Mode&0o022 != 0:
		return nil, errors.New("others can write it")
	case st.Size > maxFacts:
		return nil, fmt.Errorf("longer than %d bytes", maxFacts)
	}
	text := make([]byte, st.Size)
	for got := 0; got < len(text); {
		n, err := syscall.Read(fd, text[got:])
		switch {
		case err == syscall.EINTR:
		case err != nil:
			return nil, err
		case n == 0:
			return nil, io.ErrUnexpectedEOF
		}
		got += max(n, 0)
	}
	return text, nil
}

// briefFacts are those that a client needs.
type briefFacts struct {
	uid                 uint32
	socket, adminSocket string
}

func parseFacts(text []byte) (briefFacts, error) {
	var b briefFacts
	uid := int64(-1) // 0 is not the same as nothing
	err := Members(text, func(key string, value []byte) {
		switch key {
		case "service_uid":
			if n, ok := integer(value); ok {
				uid = n
			}
		case "socket":
			b.socket, _ = Text(value)
		case "admin_socket":
			b.adminSocket, _ = Text(value)
		}
	})
	switch {
	case err != nil:
		return b, err
	case uid < 0 || uid >= 1<<32-1:
		return b, errors.New("service_uid must be a uid")
	case !filepath.IsAbs(b.socket) || !filepath.IsAbs(b.adminSocket):
		return b, errors.New("socket and admin_socket must be absolute paths")
	}
	b.uid = uint32(uid)
	return b, nil
}

// FactsPath returns where the facts of the installation stand to which the
// running program belongs: ../share/install.json beside its folder bin or
// libexec.
func FactsPath() (string, error) {
	exe, err := os.Executable()
	if err == nil && runtime.GOOS != "linux" { // whose kernel follows links itself
		exe, err = filepath.EvalSymlinks(exe)
	}
	if err != nil {
		return "", fmt.Errorf("find this program: %w", err)
	}
	return factsBeside(exe)
}

func factsBeside(exe string) (string, error) {
	dir := filepath.Dir(exe)
	if base := filepath.Base(dir); base != "bin" && base != "libexec" {
		return "", fmt.Errorf("%s is in no folder called bin or libexec", exe)
	}
	return filepath.Join(filepath.Dir(dir), "share", "install.json"), nil
}

// Discover finds the client socket and the uid that must be behind it, from
// the installation facts. For tests, CARAPACE_SOCKET and CARAPACE_SERVER_UID
// stand in for them, each for its own part; they are ignored for root and for
// a program whose real and effective ids differ. The error is an
// *UnreachableError.
func Discover() (ClientOptions, error) {
	env := os.Getenv
	if os.Getuid() == 0 || os.Geteuid() == 0 || os.Getuid() != os.Geteuid() || os.Getgid() != os.Getegid() {
		env = func(string) string { return "" }
	}
	return discover(env, FactsPath)
}

func discover(env func(string) string, path func() (string, error)) (ClientOptions, error) {
	o := ClientOptions{Socket: env("CARAPACE_SOCKET")}
	uid := env("CARAPACE_SERVER_UID")
	if uid != "" {
		n, err := strconv.ParseUint(uid, 10, 32)
		if err != nil {
			return o, notInstalled(fmt.Errorf("CARAPACE_SERVER_UID is no uid: %s", shown(uid)))
		}
		o.ServerUID = uint32(n)
	}
	if o.Socket != "" && uid != "" {
		return o, nil
	}
	facts, err := readFacts(path)
	if err != nil {
		return o, err
	}
	if o.Socket == "" {
		o.Socket = facts.socket
	}
	if uid == "" {
		o.ServerUID = facts.uid
	}
	return o, nil
}

// DiscoverAdmin finds the admin socket and the uid that must be behind it,
// from the installation facts alone. The error is an *UnreachableError.
func DiscoverAdmin() (ClientOptions, error) {
	facts, err := readFacts(FactsPath)
	if err != nil {
		return ClientOptions{}, err
	}
	return ClientOptions{Socket: facts.adminSocket, ServerUID: facts.uid}, nil
}

func readFacts(path func() (string, error)) (briefFacts, error) {
	p, err := path()
	if err != nil {
		return briefFacts{}, notInstalled(err)
	}
	text, err := readFactsFile(p)
	if err != nil {
		return briefFacts{}, notInstalled(fmt.Errorf("%s: %w", p, err))
	}
	facts, err := parseFacts(text)
	if err != nil {
		return briefFacts{}, notInstalled(fmt.Errorf("%s: %w", p, err))
	}
	return facts, nil
}

func notInstalled(err error) error {
	return &UnreachableError{Err: fmt.Errorf("%w: %w", ErrNotInstalled, err)}
}
