package files

import (
	"unsafe"

	"kernel/memory"
	"kernel/supervisor/space"
)

// An Entry is a file or folder of a bundle: buildsys/gotest/bundle.py. Names and bytes are told by their distance
// from the bundle's first byte; the parent is the number of an entry before, counted from 1, or 0 for the root.
type Entry struct {
	Parent, Mode      uintptr
	Name, NameLength  uintptr
	Bytes, ByteLength uintptr
	Number            uintptr // of the node, once it has one
}

// Flags of openat and of unlinkat: include/uapi/asm-generic/fcntl.h, and of arm64, asm/fcntl.h; linux/fcntl.h.
const (
	access       = 3
	create       = 0o100
	exclusive    = 0o200
	truncated    = 0o1000
	appending    = 0o2000
	onlyFolder   = 0o40000
	pathOnly     = 0o10000000
	removeFolder = 0x200
	emptyPath    = 0x1000

	noFollow = 0x100 // AT_SYMLINK_NOFOLLOW

	here      = -100 // AT_FDCWD
	AtWorking = 1<<64 + here
	noReplace = 1 // RENAME_NOREPLACE
)

// A description is what openat makes: descriptors that were duplicated share it.
type description struct {
	node  *node
	at    uintptr // bytes; of a folder, the order of the entry that was told last
	users int
}

const mostDescriptions = 2 * mostFiles

var (
	descriptions [mostDescriptions]description
	executable   *node // the program itself
	link         *node // /proc/self/exe, which leads to it
)

var devices = [...]struct {
	name string
	kind kind
}{{"null", null}, {"zero", zeros}, {"random", random}, {"urandom", random}, {"tty", console}, {"console", console}}

// hosts is /etc/hosts: who is not told there would have to be asked for.
const hosts = "127.0.0.1\tlocalhost\n"

// initTree makes the folders and devices that are always there; it tells whether there was RAM for them.
func initTree() bool {
	if root = newNode(folderBits | 0o755); root == nil {
		return false
	}
	root.parent = root
	own.move(root)
	temporary, dev := newNode(folderBits|0o1777), newNode(folderBits|0o755)
	if temporary == nil || dev == nil {
		return false
	}
	etc, names := newNode(folderBits|0o755), newNode(fileBits|0o644)
	if etc == nil || names == nil {
		return false
	}
	root.put(temporary, "tmp")
	root.put(dev, "dev")
	root.put(etc, "etc")
	etc.put(names, "hosts")
	text := hosts
	names.given, names.size = *(*uintptr)(unsafe.Pointer(&text)), uintptr(len(text)) // a string begins with its address
	for at := range devices {
		device := newNode(deviceBits | 0o666)
		if device == nil {
			return false
		}
		device.device = devices[at].kind
		dev.put(device, devices[at].name)
	}
	proc, self := newNode(folderBits|0o555), newNode(folderBits|0o555)
	link = newNode(linkBits | 0o777)
	if proc == nil || self == nil || link == nil {
		return false
	}
	root.put(proc, "proc")
	proc.put(self, "self")
	self.put(link, "exe")
	return true
}

// InitExecutable makes the file that stands for the program, at path, in a folder that there is; it tells whether it
// could. To be read it is empty.
func InitExecutable(path string) bool {
	if path == "" {
		return false
	}
	parent, name, found, failed := find(root, path)
	if failed != 0 || found != nil {
		return false
	}
	if executable = newNode(fileBits | 0o755); executable == nil {
		return false
	}
	parent.put(executable, name)
	return true
}

// Plant puts count entries of the bundle at base into the tree, and makes folder, the number of one from 1, the working
// folder; it tells whether there was RAM for all, and sense in them.
func Plant(base, first, count, folder uintptr) bool {
	const size = 7 * 8
	entry := func(number uintptr) *Entry { return memory.At[Entry](base + first + (number-1)*size) }
	for number := uintptr(1); number <= count; number++ {
		planted := entry(number)
		parent := root
		if planted.Parent >= number || planted.NameLength > longestName {
			return false
		}
		if planted.Parent > 0 {
			parent = memory.At[node](entry(planted.Parent).Number)
		}
		name := textAt(base+planted.Name, planted.NameLength)
		made := parent.child(name)
		if made == nil {
			if made = newNode(uint32(planted.Mode)); made == nil {
				return false
			}
			parent.put(made, name)
		}
		if !made.isFolder() {
			made.given, made.size = base+planted.Bytes, planted.ByteLength
			if planted.ByteLength == 0 {
				made.given = 0
			}
		}
		planted.Number = place(made)
	}
	if folder > 0 && folder <= count {
		own.move(memory.At[node](entry(folder).Number))
	}
	return true
}

// find walks from a folder along a path. It returns the folder of the last name, that name, and what is called so,
// nil if nothing is; or an error.
func find(from *node, path string) (*node, string, *node, int64) {
	if path == "" {
		return nil, "", nil, -ENOENT
	}
	at := from
	if path[0] == '/' {
		at = root
	}
	parent, last := at, "."
	for begin := 0; begin < len(path); {
		if path[begin] == '/' {
			begin++
			continue
		}
		end := begin
		for end < len(path) && path[end] != '/' {
			end++
		}
		if at == nil {
			return nil, "", nil, -ENOENT
		}
		if !at.isFolder() {
			return nil, "", nil, -ENOTDIR
		}
		if end-begin > longestName {
			return nil, "", nil, -ENAMETOOLONG
		}
		parent, last = at, path[begin:end]
		switch last {
		case ".":
		case "..":
			at = at.parent
			if at == nil { // a folder that was removed
				return nil, "", nil, -ENOENT
			}
		default:
			at = parent.child(last)
		}
		begin = end
	}
	if at != nil && !at.isFolder() && path[len(path)-1] == '/' {
		return nil, "", nil, -ENOTDIR
	}
	return parent, last, at, 0
}

// from is the folder a path of a call begins at.
func from(folder uint64) (*node, int64) {
	if int32(folder) == here {
		return own.working, 0
	}
	opened := described(folder)
	if opened == nil {
		if open(folder) == nil {
			return nil, -EBADF
		}
		return nil, -ENOTDIR
	}
	return opened.node, 0
}

func described(descriptor uint64) *description {
	if file := open(descriptor); file != nil && file.kind == regular {
		return &descriptions[file.number]
	}
	return nil
}

// start is from, for a path: one that begins at the root needs no folder.
func start(folder uint64, path string) (*node, int64) {
	if path != "" && path[0] == '/' {
		return root, 0
	}
	return from(folder)
}

// OpenAt opens, or makes, the file at a path.
func OpenAt(folder uint64, path string, flags, mode uint64) int64 {
	if len(path) > len(devicesFolder) && path[:len(devicesFolder)] == devicesFolder {
		// What only a bare machine has is no part of the tree.
		if opened := openDevice(path, flags); opened != -ENOENT {
			return opened
		}
	}
	begin, failed := start(folder, path)
	if failed != 0 {
		return failed
	}
	parent, name, found, failed := find(begin, path)
	if failed != 0 {
		return failed
	}
	if found == link {
		found = executable
	}
	writing, closes := flags&access != 0, flags&CloseAtExec != 0
	switch {
	case found != nil && found == executable && (writing || flags&truncated != 0):
		return -ETXTBSY
	case found == nil && flags&create == 0:
		return -ENOENT
	case found == nil:
		if path[len(path)-1] == '/' {
			return -EISDIR
		}
		if found = newNode(fileBits | uint32(mode)&rightBits&^mask); found == nil {
			return -ENOSPC
		}
		parent.put(found, name)
	case flags&(create|exclusive) == create|exclusive:
		return -EEXIST
	case flags&onlyFolder != 0 && !found.isFolder():
		return -ENOTDIR
	case found.isFolder() && (writing || flags&create != 0):
		return -EISDIR
	case found.mode&formatBits == socketBits:
		return -ENXIO
	}
	if found.device != closed {
		return add(file{kind: found.device, flags: uint16(flags) & (Nonblocking | access), closes: closes})
	}
	for at := range descriptions {
		if descriptions[at].users == 0 {
			made := file{kind: regular, number: int32(at), closes: closes}
			made.flags = uint16(flags) & (Nonblocking | access | appending)
			opened := add(made)
			if opened < 0 {
				return opened
			}
			descriptions[at] = description{node: found, users: 1}
			found.open++
			if flags&truncated != 0 && writing && !found.isFolder() {
				found.truncate(0)
			}
			return opened
		}
	}
	return -EMFILE
}

// mask is what umask takes from the rights of what is made.
const mask = 0o022

func (d *description) close() {
	if d.users--; d.users == 0 {
		d.node.leave()
		d.node = nil
	}
}

// readFile and writeFile are of a descriptor of a file or folder, at the place it is at, or at another.

func (f *file) readFile(to, length uintptr, at *uintptr) int64 {
	opened := &descriptions[f.number]
	if opened.node.isFolder() {
		return -EISDIR
	}
	if f.flags&access == writeOnly {
		return -EBADF
	}
	place := &opened.at
	if at != nil {
		place = at
	}
	done := opened.node.read(*place, to, length)
	*place += done
	return int64(done)
}

func (f *file) writeFile(from, length uintptr, at *uintptr) int64 {
	opened := &descriptions[f.number]
	if f.flags&access == 0 {
		return -EBADF
	}
	place := &opened.at
	if at != nil {
		place = at
	} else if f.flags&appending != 0 {
		*place = opened.node.size
	}
	done := opened.node.write(*place, from, length)
	if done > 0 {
		*place += uintptr(done)
	}
	return done
}

// ReadAt and WriteAt are pread64 and pwrite64.
func ReadAt(descriptor uint64, to, length, at uintptr) int64 {
	if file := open(descriptor); file == nil {
		return -EBADF
	} else if file.kind != regular {
		return -ESPIPE
	} else if int64(at) < 0 {
		return -EINVAL
	} else {
		return file.readFile(to, length, &at)
	}
}

func WriteAt(descriptor uint64, from, length, at uintptr) int64 {
	if file := open(descriptor); file == nil {
		return -EBADF
	} else if file.kind != regular {
		return -ESPIPE
	} else if int64(at) < 0 {
		return -EINVAL
	} else {
		return file.writeFile(from, length, &at)
	}
}

// Seek moves to another place in a file: include/uapi/linux/fs.h, SEEK_SET, SEEK_CUR, SEEK_END.
func Seek(descriptor, offset, whence uint64) int64 {
	opened := described(descriptor)
	if opened == nil {
		if open(descriptor) == nil {
			return -EBADF
		}
		return -ESPIPE
	}
	at := int64(offset)
	switch whence {
	case 0:
	case 1:
		at += int64(opened.at)
	case 2:
		at += int64(opened.node.size)
	default:
		return -EINVAL
	}
	if at < 0 {
		return -EINVAL
	}
	opened.at = uintptr(at)
	return at
}

// Truncate is ftruncate.
func Truncate(descriptor, size uint64) int64 {
	opened := described(descriptor)
	if opened == nil || opened.node.isFolder() || open(descriptor).flags&access == 0 || int64(size) < 0 {
		if open(descriptor) == nil {
			return -EBADF
		}
		return -EINVAL
	}
	return opened.node.truncate(uintptr(size))
}

// MakeFolder is mkdirat.
func MakeFolder(folder uint64, path string, mode uint64) int64 {
	begin, failed := start(folder, path)
	if failed != 0 {
		return failed
	}
	parent, name, found, failed := find(begin, path)
	if failed != 0 {
		return failed
	}
	if found != nil {
		return -EEXIST
	}
	made := newNode(folderBits | uint32(mode)&rightBits&^mask)
	if made == nil {
		return -ENOSPC
	}
	parent.put(made, name)
	return 0
}

// Remove is unlinkat.
func Remove(folder uint64, path string, flags uint64) int64 {
	begin, failed := start(folder, path)
	if failed != 0 {
		return failed
	}
	_, name, found, failed := find(begin, path)
	switch {
	case failed != 0:
		return failed
	case found == nil:
		return -ENOENT
	case flags&removeFolder == 0 && found.isFolder():
		return -EISDIR
	case flags&removeFolder != 0 && !found.isFolder():
		return -ENOTDIR
	case name == "." || name == "..":
		return -EINVAL
	case found.first != nil:
		return -ENOTEMPTY
	case found == root || found == own.working:
		return -EBUSY
	}
	found.parent.take(found)
	found.drop()
	return 0
}

// Rename is renameat2.
func Rename(folder uint64, path string, toFolder uint64, to string, flags uint64) int64 {
	begin, failed := start(folder, path)
	if failed != 0 {
		return failed
	}
	_, _, moved, failed := find(begin, path)
	if failed != 0 {
		return failed
	}
	if moved == nil {
		return -ENOENT
	}
	if begin, failed = start(toFolder, to); failed != 0 {
		return failed
	}
	parent, name, there, failed := find(begin, to)
	switch {
	case failed != 0:
		return failed
	case flags&^noReplace != 0 || moved == root || name == "." || name == "..":
		return -EINVAL
	case there == moved:
		return 0
	case there != nil && flags&noReplace != 0:
		return -EEXIST
	case there != nil && there.isFolder() && !moved.isFolder():
		return -EISDIR
	case there != nil && !there.isFolder() && moved.isFolder():
		return -ENOTDIR
	case there != nil && there.first != nil:
		return -ENOTEMPTY
	}
	for at := parent; at != root; at = at.parent {
		if at == moved { // into itself
			return -EINVAL
		}
	}
	if there != nil {
		parent.take(there)
		there.drop()
	}
	moved.parent.take(moved)
	parent.put(moved, name)
	return 0
}

// Of struct stat: include/uapi/asm-generic/stat.h.
const (
	StatBytes     = 128
	statNumber    = 8
	statMode      = 16
	statLinks     = 20
	statSize      = 48
	statBlockSize = 56
	statBlocks    = 64
	statTimes     = 72 // three of two words: accessed, modified, changed
	fifo          = 0o010600
	characters    = 0o020620
)

// Status writes the struct stat of a descriptor to memory that is there.
func Status(descriptor uint64, to uintptr) int64 {
	file := open(descriptor)
	if file == nil {
		return -EBADF
	}
	if file.kind == regular {
		return descriptions[file.number].node.status(to)
	}
	zero(bytesAt(to, StatBytes))
	memory.Store32(to+statMode, characters)
	switch file.kind {
	case pipeRead, pipeWrite:
		memory.Store32(to+statMode, fifo)
	case network:
		memory.Store32(to+statMode, socketBits|anyRights)
	}
	memory.Store32(to+statLinks, 1)
	memory.Store32(to+statBlockSize, space.PageSize)
	return 0
}

// StatusAt is newfstatat.
func StatusAt(folder uint64, path string, flags uint64, to uintptr) int64 {
	if path == "" && flags&emptyPath != 0 && int32(folder) != here {
		return Status(folder, to)
	}
	found, failed := named(folder, path)
	if failed != 0 {
		return failed
	}
	if found == link && flags&noFollow == 0 {
		found = executable
	}
	return found.status(to)
}

// existing is the node at a path, which leads on if it is the link.
func existing(folder uint64, path string) (*node, int64) {
	found, failed := named(folder, path)
	if failed == 0 && found == link {
		found = executable
	}
	return found, failed
}

// named is the node at a path, be it the link.
func named(folder uint64, path string) (*node, int64) {
	begin, failed := start(folder, path)
	if failed != 0 {
		return nil, failed
	}
	_, _, found, failed := find(begin, path)
	if failed == 0 && found == nil {
		failed = -ENOENT
	}
	return found, failed
}

func (n *node) status(to uintptr) int64 {
	zero(bytesAt(to, StatBytes))
	memory.Store64(to, 1) // a device number
	memory.Store64(to+statNumber, n.number)
	memory.Store32(to+statMode, n.mode)
	memory.Store32(to+statLinks, 1)
	memory.Store64(to+statSize, uint64(n.size))
	memory.Store32(to+statBlockSize, space.PageSize)
	memory.Store64(to+statBlocks, uint64((n.size+511)/512))
	for at := uintptr(0); at < 48; at += 16 {
		memory.Store64(to+statTimes+at, n.changed/1_000_000_000)
		memory.Store64(to+statTimes+at+8, n.changed%1_000_000_000)
	}
	return 0
}

// Access is faccessat: all may do all, but execute files that say they are not to be.
func Access(folder uint64, path string, rights uint64) int64 {
	found, failed := existing(folder, path)
	if failed != 0 {
		return failed
	}
	if rights&1 != 0 && found.mode&0o111 == 0 {
		return -EACCES
	}
	return 0
}

// ReadLink is readlinkat: the one link there is leads to the program.
func ReadLink(folder uint64, path string, to, size uintptr) int64 {
	found, failed := named(folder, path)
	switch {
	case failed != 0:
		return failed
	case found != link:
		return -EINVAL
	}
	length := executable.pathLength()
	if length > space.PageSize {
		return -ENAMETOOLONG
	}
	if size > length {
		size = length
	}
	return executable.path(to, size)
}

// IsExecutable tells whether the file at a path is the program, as an error if it is not.
func IsExecutable(path string) int64 {
	found, failed := existing(AtWorking, path)
	switch {
	case failed != 0:
		return failed
	case found.mode&formatBits != fileBits || found.mode&0o111 == 0:
		return -EACCES
	case found != executable:
		return -ENOEXEC
	}
	return 0
}

// SetMode is fchmodat, and with an empty path fchmod.
func SetMode(folder uint64, path string, mode uint64) int64 {
	found, failed := at(folder, path)
	if failed == 0 {
		found.mode = found.mode&formatBits | uint32(mode)&rightBits
	}
	return failed
}

// SetTime is utimensat: the time of the last change, in nanoseconds since 1970.
func SetTime(folder uint64, path string, changed uint64) int64 {
	found, failed := at(folder, path)
	if failed == 0 {
		found.changed = changed
	}
	return failed
}

// at is the node at a path, or with an empty one of a descriptor.
func at(folder uint64, path string) (*node, int64) {
	if path != "" {
		return existing(folder, path)
	}
	return from(folder)
}

// ChangeFolder is chdir, and with an empty path fchdir.
func ChangeFolder(folder uint64, path string) int64 {
	found, failed := at(folder, path)
	if failed != 0 {
		return failed
	}
	if !found.isFolder() {
		return -ENOTDIR
	}
	own.move(found)
	return 0
}

// move makes another folder the working one.
func (t *Table) move(to *node) {
	to.open++
	if t.working != nil {
		t.working.leave()
	}
	t.working = to
}

// leave tells a node that a description, or a process's working folder, is it no more.
func (n *node) leave() {
	n.open--
	n.drop()
}

// Folder writes the working folder's path, and a zero byte, to memory that is there; it returns how many bytes.
func Folder(to, size uintptr) int64 {
	length := own.working.pathLength()
	if length+1 > size {
		return -ERANGE
	}
	memory.Store8(to+length, 0)
	own.working.path(to, length)
	return int64(length + 1)
}

// pathLength is how many bytes the path of a node has, from the root on.
func (n *node) pathLength() uintptr {
	length := uintptr(0)
	for at := n; at != root && at != nil; at = at.parent {
		length += uintptr(at.length) + 1
	}
	if length == 0 {
		length = 1
	}
	return length
}

// path writes the first size bytes of a node's path to memory that is there; it returns how many.
func (n *node) path(to, size uintptr) int64 {
	memory.Store8(to, '/')
	end := n.pathLength()
	for at := n; at != root && at != nil; at = at.parent {
		for letter := int(at.length) - 1; letter >= -1; letter-- {
			end--
			if end >= size {
				continue
			}
			if letter < 0 {
				memory.Store8(to+end, '/')
			} else {
				memory.Store8(to+end, at.name[letter])
			}
		}
	}
	return int64(size)
}

// Entries is getdents64: struct linux_dirent64 of what is in a folder, as many as there is room for.
func Entries(descriptor uint64, to, room uintptr) int64 {
	opened := described(descriptor)
	if opened == nil {
		if open(descriptor) == nil {
			return -EBADF
		}
		return -ENOTDIR
	}
	if !opened.node.isFolder() {
		return -ENOTDIR
	}
	const fixed = 19 // bytes before the name
	done := uintptr(0)
	for at := opened.node.first; at != nil; at = at.next {
		if uintptr(at.order) <= opened.at {
			continue
		}
		size := (fixed + uintptr(at.length) + 1 + 7) &^ 7
		if done+size > room {
			if done == 0 {
				return -EINVAL
			}
			break
		}
		entry := to + done
		zero(bytesAt(entry, size))
		memory.Store64(entry, at.number)
		memory.Store64(entry+8, at.order)
		memory.Store8(entry+16, uint8(size))
		memory.Store8(entry+17, uint8(size>>8))
		memory.Store8(entry+18, uint8(at.mode>>12)) // DT_DIR, DT_REG, DT_CHR are S_IFMT's bits
		copy(bytesAt(entry+fixed, uintptr(at.length)), at.name[:at.length])
		done += size
		opened.at = uintptr(at.order)
	}
	return int64(done)
}
