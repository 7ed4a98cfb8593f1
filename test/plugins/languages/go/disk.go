// A disk in Go: its memory is Go's, and a goroutine of its own answers each request.
package main

// #include <stdint.h>
import "C"

import (
	"fmt"
	"os"
	"sync"
	"unsafe"
)

const size = 1 << 20

var (
	disk  [size]byte
	mutex sync.Mutex
)

func main() {}

func say(words ...any) { fmt.Fprintln(os.Stderr, words...) }

//export goLoad
func goLoad() { say("load") }

//export goUnload
func goUnload() { say("unload") }

//export goConfig
func goConfig(key, value *C.char) C.int {
	if C.GoString(key) != "word" {
		return -1
	}
	say("config", C.GoString(key), C.GoString(value))
	return 0
}

//export goOpen
func goOpen(readonly C.int) { say("open", readonly) }

//export goClose
func goClose() { say("close") }

//export goSize
func goSize() C.int64_t { return size }

func move(to, from []byte) {
	done := make(chan int)
	go func() {
		mutex.Lock()
		defer mutex.Unlock()
		done <- copy(to, from)
	}()
	<-done
}

//export goRead
func goRead(buffer unsafe.Pointer, count C.uint32_t, offset C.uint64_t) C.int {
	if offset == 666*512 {
		return -1
	}
	move(unsafe.Slice((*byte)(buffer), count), disk[offset:])
	return 0
}

//export goWrite
func goWrite(buffer unsafe.Pointer, count C.uint32_t, offset C.uint64_t) {
	move(disk[offset:], unsafe.Slice((*byte)(buffer), count))
}
