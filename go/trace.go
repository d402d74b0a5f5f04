// SPDX-License-Identifier: MIT
// Traces: what goes over a monitor's wire, for a function of the program.

package blockjob

import (
	"fmt"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A TraceLine is one line that was sent to QEMU or received from it: a whole message of QMP.
type TraceLine struct {
	Name string    // the monitor's
	Sent bool      // to QEMU; else received from it
	Text string    // without the line's end
	Time time.Time // by this machine's clock
	Lost uint64    // lines dropped just before this one because the function was slow
}

// String returns the line for a log: "vm1 > {...}" if it was sent, "vm1 < {...}" if it was received.
func (l TraceLine) String() string {
	direction := "<"
	if l.Sent {
		direction = ">"
	}
	if l.Lost > 0 {
		return fmt.Sprintf("%s %s (%d lines lost) %s", l.Name, direction, l.Lost, l.Text)
	}
	return l.Name + " " + direction + " " + l.Text
}

// A tracer hands the lines of a watch to a function, on its goroutine.
type tracer struct {
	stream  *stream
	closing chan struct{} // closed by stop
	done    chan struct{} // closed when the goroutine has ended
}

// The library keeps so many lines for each record that a stream keeps.
const linesPerRecord = 16

// startTracer takes over the watch. Nil if the hub is closed.
func (h *hub) startTracer(watch core.Watch, trace func(TraceLine)) *tracer {
	t := &tracer{
		stream:  newStream(linesPerRecord*h.ring, func(int) bool { return true }),
		closing: make(chan struct{}),
		done:    make(chan struct{}),
	}
	t.stream.byteLimit = h.bytes
	token, ok := h.deliver(t.stream, func(queue core.Queue, token uint64) int {
		return core.WatchDeliver(watch, queue, token)
	})
	if !ok {
		core.WatchUnref(watch)
		return nil
	}
	go func() {
		defer close(t.done)
		defer core.WatchUnref(watch)

		for n := t.stream.next(nil, t.closing); n != nil; n = t.stream.next(nil, t.closing) {
			trace(TraceLine{n.name, n.kind == core.RecordSent, n.text, n.time, n.dropped})
		}
		core.WatchClose(watch)
		h.forget(token)
		t.stream.close()
	}()
	return t
}

// stop returns when the function has had all lines that there are.
func (t *tracer) stop() {
	if t != nil {
		close(t.closing)
		<-t.done
	}
}
