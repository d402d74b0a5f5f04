// SPDX-License-Identifier: MIT
// From a watch of the library to a channel, past a receiver that may be slow.

package blockjob

import (
	"context"
	"sync"
	"time"

	"github.com/libblockjob/libblockjob/go/internal/core"
)

// A notice is a record, copied.
type notice struct {
	next   *notice
	number uint64 // counts the records of the watch, those that were dropped included
	kept   bool   // never dropped

	kind           int
	code           int
	outcome        Outcome
	current, total int64
	time           time.Time
	name, text     string
	dropped        uint64 // records lost just before this one; set when it is taken
}

func (n *notice) size() uint64 {
	return uint64(len(n.name) + len(n.text))
}

// A stream keeps the records of one watch until the receiver takes them. The reader of the queue must
// not wait for a slow receiver: the oldest beyond the limits are dropped, in constant time, and the
// receiver learns how many from the numbers (B61). Never dropped, and not counted, is the latest of each
// kind that says where a job or the connection stands.
type stream struct {
	keep      func(kind int) bool // which records the receiver wants
	limit     uint64              // of notices
	byteLimit uint64              // of their texts
	wake      chan struct{}       // room for one

	mu     sync.Mutex
	first  *notice // a list: what was taken is not referred to any more
	last   **notice
	latest map[int]*notice // the kept ones, by kind
	count  uint64          // of those that may be dropped
	bytes  uint64          // of all
	number uint64          // of the record that came last
	taken  uint64          // the number of the notice that was taken last
	ended  bool
}

// newStream makes one for so many notices; 0 stands for the monitor's limit.
func newStream(limit uint64, keep func(kind int) bool) *stream {
	s := &stream{keep: keep, limit: limit, wake: make(chan struct{}, 1), latest: make(map[int]*notice)}
	s.last = &s.first
	return s
}

func (s *stream) receive(record core.Record) bool {
	kind := record.Kind()

	s.mu.Lock()
	switch {
	case kind == core.RecordClosed:
		s.ended = true
	case kind == core.RecordLagged:
		s.number += record.Lost()
	case s.keep(kind):
		s.push(&notice{
			kind:    kind,
			code:    record.Error(),
			outcome: Outcome(record.Outcome()),
			current: record.Current(),
			total:   record.Total(),
			time:    fromMicroseconds(record.TimestampUS()),
			name:    record.Name(),
			text:    record.Text(),
		})
	}
	s.mu.Unlock()

	select {
	case s.wake <- struct{}{}:
	default:
	}
	return kind != core.RecordClosed
}

func (s *stream) push(n *notice) {
	s.number++
	n.number = s.number
	*s.last = n
	s.last = &n.next
	s.bytes += n.size()

	if !matters(n.kind) {
		s.count++
	} else {
		if before := s.latest[n.kind]; before != nil {
			before.kept = false
			s.count++
		}
		s.latest[n.kind] = n
		n.kept = true
	}
	for s.count > s.limit || s.bytes > s.byteLimit && s.count > 1 {
		s.drop()
	}
}

// drop passes by what is kept, which is one of a kind.
func (s *stream) drop() {
	link := &s.first
	for (*link).kept {
		link = &(*link).next
	}
	s.remove(link)
}

func (s *stream) remove(link **notice) *notice {
	n := *link
	*link = n.next
	if s.last == &n.next {
		s.last = link
	}
	n.next = nil
	s.bytes -= n.size()
	if n.kept {
		delete(s.latest, n.kind)
	} else {
		s.count--
	}
	return n
}

func (s *stream) take() *notice {
	if s.first == nil {
		return nil
	}
	n := s.remove(&s.first)
	n.dropped = n.number - s.taken - 1
	s.taken = n.number
	return n
}

func matters(kind int) bool {
	switch kind {
	case core.RecordReady, core.RecordStalled, core.RecordEnded,
		core.RecordDisconnected, core.RecordReconnected:
		return true
	}
	return false
}

// next waits for the next notice; nil if there is none any more, or one of the channels is closed.
func (s *stream) next(done, closing <-chan struct{}) *notice {
	for {
		s.mu.Lock()
		n, ended := s.take(), s.ended
		s.mu.Unlock()

		if n != nil || ended {
			return n
		}
		select {
		case <-s.wake:
		case <-done:
			return nil
		case <-closing:
			return nil
		}
	}
}

// open has the records of a watch brought to a stream, and from there to a channel, which is closed
// when the watch has ended, the context is done or the monitor is closed.
func open[T any](ctx context.Context, m *Monitor, s *stream, watch func(core.Monitor, *core.Watch) int,
	convert func(*notice) T) (<-chan T, error) {
	if ctx == nil {
		return nil, noContext("watching")
	}
	var handle core.Watch
	var token uint64

	err := m.use(func(monitor core.Monitor) (err error) {
		if err = check("watching", watch(monitor, &handle)); err == nil {
			token, err = m.connect(s, handle)
		}
		return err
	})
	if err != nil {
		core.WatchUnref(handle)
		return nil, err
	}

	out := make(chan T)
	go func() {
		defer m.streams.Done()
		defer close(out)
		defer core.WatchUnref(handle)

		forward(ctx.Done(), m.closing, s, out, convert)
		core.WatchClose(handle)
		m.hub.forget(token)
	}()
	return out, nil
}

// forward hands on what comes until the stream ends or one of the channels is closed.
func forward[T any](done, closing <-chan struct{}, s *stream, out chan<- T, convert func(*notice) T) {
	for n := s.next(done, closing); n != nil; n = s.next(done, closing) {
		select {
		case out <- convert(n):
		case <-done:
			return
		case <-closing:
			return
		}
	}
}

// connect has the records of a watch delivered to a stream, which Close then waits for.
func (m *Monitor) connect(s *stream, watch core.Watch) (token uint64, err error) {
	if s.limit == 0 {
		s.limit = m.hub.ring
	}
	s.byteLimit = m.hub.bytes

	token, ok := m.hub.deliver(s, func(queue core.Queue, token uint64) int {
		return core.WatchDeliver(watch, queue, token)
	})
	if !ok {
		return 0, errClosed()
	}
	m.streams.Add(1)
	return token, nil
}

func fromMicroseconds(us int64) time.Time {
	if us == 0 {
		return time.Time{}
	}
	return time.UnixMicro(us)
}
