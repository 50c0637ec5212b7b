package platform

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// POSIX access lists as the Linux kernel keeps them in two extended attributes
// (include/uapi/linux/posix_acl_xattr.h): a version, then tag, permissions and
// id of each entry, little endian, in the order of the tags.
const (
	aclAccess  = "system.posix_acl_access"
	aclDefault = "system.posix_acl_default"

	aclVersion  = 2
	aclUserObj  = 0x01
	aclUser     = 0x02
	aclGroupObj = 0x04
	aclMask     = 0x10
	aclOther    = 0x20
	aclNoID     = 0xffffffff
)

// ErrNoACL says that the file system keeps no access lists.
var ErrNoACL = errors.New("the file system keeps no access lists")

// readerACL is: the owner everything, one more user read and search, nobody
// else anything.
func readerACL(uid uint32) []byte {
	b := binary.LittleEndian.AppendUint32(nil, aclVersion)
	for _, e := range []struct {
		tag, perm uint16
		id        uint32
	}{
		{aclUserObj, 7, aclNoID}, {aclUser, 5, uid}, {aclGroupObj, 0, aclNoID},
		{aclMask, 5, aclNoID}, {aclOther, 0, aclNoID},
	} {
		b = binary.LittleEndian.AppendUint16(b, e.tag)
		b = binary.LittleEndian.AppendUint16(b, e.perm)
		b = binary.LittleEndian.AppendUint32(b, e.id)
	}
	return b
}

// AllowReader lets one user read a folder and, by inheritance, what its owner
// will put into it, and nobody else beside the owner.
func (f *Files) AllowReader(name string, uid uint32) error {
	if err := f.CheckParents(name); err != nil {
		return err
	}
	h, err := openNoFollow(name)
	if err != nil {
		return err
	}
	defer h.Close()
	// The inherited list first: no moment in which the folder can be read and
	// what is made in it could be read by more.
	for _, attr := range []string{aclDefault, aclAccess} {
		if err := unix.Fsetxattr(int(h.Fd()), attr, readerACL(uid), 0); err != nil {
			if errors.Is(err, unix.ENOTSUP) {
				return fmt.Errorf("%s: %w", name, ErrNoACL)
			}
			return fmt.Errorf("set the access list of %s: %w", name, err)
		}
		f.mutated("setfacl " + name)
	}
	return h.Sync()
}

// AllowsReader reports whether the folder has exactly the access lists that
// AllowReader sets.
func (f *Files) AllowsReader(name string, uid uint32) (bool, error) {
	h, err := openNoFollow(name)
	if err != nil {
		return false, err
	}
	defer h.Close()
	for _, attr := range []string{aclDefault, aclAccess} {
		got := make([]byte, 4096)
		n, err := unix.Fgetxattr(int(h.Fd()), attr, got)
		if err != nil {
			return false, nil
		}
		if string(got[:n]) != string(readerACL(uid)) {
			return false, nil
		}
	}
	return true, nil
}
