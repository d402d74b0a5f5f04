// SPDX-License-Identifier: MIT
// What jobs, monitors and records look like when they are printed.

package blockjob

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// String returns the kind as "QEMU", "DISCONNECTED" or "RECONNECTED".
func (k EventKind) String() string {
	switch k {
	case EventQEMU:
		return "QEMU"
	case EventDisconnected:
		return "DISCONNECTED"
	case EventReconnected:
		return "RECONNECTED"
	}
	return fmt.Sprintf("EventKind(%d)", int(k))
}

// String returns the kind as "STATUS", "READY", ...
func (k UpdateKind) String() string {
	switch k {
	case UpdateStatus:
		return "STATUS"
	case UpdateReady:
		return "READY"
	case UpdateStalled:
		return "STALLED"
	case UpdateResumed:
		return "RESUMED"
	case UpdateProgress:
		return "PROGRESS"
	case UpdateEnded:
		return "ENDED"
	}
	return fmt.Sprintf("UpdateKind(%d)", int(k))
}

// String returns the kind as "APPEARED", "READY", ...
func (k JobChangeKind) String() string {
	switch k {
	case JobAppeared:
		return "APPEARED"
	case JobReady:
		return "READY"
	case JobStalled:
		return "STALLED"
	case JobResumed:
		return "RESUMED"
	case JobProgress:
		return "PROGRESS"
	case JobEnded:
		return "ENDED"
	case JobReleased:
		return "RELEASED"
	case JobMemo:
		return "MEMO"
	case JobsDisconnected:
		return "DISCONNECTED"
	case JobsReconnected:
		return "RECONNECTED"
	}
	return fmt.Sprintf("JobChangeKind(%d)", int(k))
}

// String returns what is known of the job without asking QEMU, as "job bj-1 (mirror, ready)".
func (j *Job) String() string {
	if j.use() == nil {
		return "no job"
	}
	state := ""
	if outcome, err := j.Outcome(), j.Err(); outcome != NoOutcome {
		state = join(": ", outcome.String(), words(err))
	} else if j.IsReady() {
		state = "ready"
	}
	return titled("job "+j.id, j.Type(), state)
}

// GoString returns what String does: "%#v" would read what others write.
func (j *Job) GoString() string {
	return j.String()
}

// String returns the monitor as "monitor unix:/run/vm1.qmp (QEMU 7.2.22)", with its name before the URI if it has one, and
// why it is over if it is.
func (m *Monitor) String() string {
	if m == nil || m.end == nil {
		return "no monitor"
	}
	version := m.version
	if version != "" {
		version = "QEMU " + version
	}
	what := "monitor " + m.uri
	if m.name != m.uri {
		what = "monitor " + m.name + " " + m.uri
	}
	return titled(what, version, words(m.Err()))
}

// GoString returns what String does: "%#v" would read what others write.
func (m *Monitor) GoString() string {
	return m.String()
}

// String returns the group as "group [job a (mirror) job b (mirror, ready)]".
func (g *Group) String() string {
	return fmt.Sprint("group ", g.Jobs())
}

// String returns the row as "job bj-1 (mirror, running, 512 of 1024)".
func (i JobInfo) String() string {
	io := ""
	if i.IOStatus != "ok" {
		io = i.IOStatus
	}
	return titled("job "+i.ID, i.Type, i.Status, Progress{i.Current, i.Total}.String(), io, i.Error)
}

// String returns the progress as "512 of 1024".
func (p Progress) String() string {
	return amount(p.Current) + " of " + amount(p.Total)
}

func amount(n int64) string {
	if n < 0 {
		return "?"
	}
	return strconv.FormatInt(n, 10)
}

// String returns what has happened, as "start_sent=2026-01-02T15:04:05.000006Z ready_event=...".
func (t Timeline) String() string {
	var all []string
	for _, moment := range t.moments() {
		if !moment.time.IsZero() {
			all = append(all, moment.name+"="+moment.time.UTC().Format(time.RFC3339Nano))
		}
	}
	return strings.Join(all, " ")
}

type moment struct {
	name string
	time time.Time
}

func (t Timeline) moments() []moment {
	return []moment{
		{"start_sent", t.StartSent},
		{"ready_event", t.ReadyEvent},
		{"ready_seen", t.ReadySeen},
		{"complete_sent", t.CompleteSent},
		{"complete_accepted", t.CompleteAccepted},
		{"end_event", t.EndEvent},
		{"end_seen", t.EndSeen},
	}
}

// String returns the event as `BLOCK_JOB_READY {"device": "bj-1", ...}` or "DISCONNECTED: ...".
func (e Event) String() string {
	if e.Kind != EventQEMU {
		return after(e.Dropped, join(": ", e.Kind.String(), words(e.Err)))
	}
	return after(e.Dropped, join(" ", e.Name, string(e.Data)))
}

// String returns the update as "STATUS running", "ENDED PIVOTED", "STALLED: ...".
func (u Update) String() string {
	what := u.Kind.String()
	switch u.Kind {
	case UpdateStatus:
		what += " " + u.Status
	case UpdateProgress:
		what += " " + u.Progress.String()
	case UpdateEnded:
		what += " " + u.Outcome.String()
	}
	return after(u.Dropped, join(": ", what, u.Text))
}

// String returns the change as "job bj-1: APPEARED mirror", "job bj-1: ENDED FAILED: ...", "DISCONNECTED: ...".
func (c JobChange) String() string {
	what := c.Kind.String()
	switch c.Kind {
	case JobAppeared:
		what = join(" ", what, c.Type)
	case JobProgress:
		what += " " + c.Progress.String()
	case JobEnded:
		what += " " + c.Outcome.String()
	}
	if c.Job != nil {
		what = "job " + c.Job.ID() + ": " + what
	}
	return after(c.Dropped, join(": ", what, c.Reason))
}

// titled adds what is known of a thing to its name.
func titled(name string, known ...string) string {
	if all := join(", ", known...); all != "" {
		return name + " (" + all + ")"
	}
	return name
}

// join leaves out what is empty.
func join(separator string, all ...string) string {
	kept := all[:0]
	for _, one := range all {
		if one != "" {
			kept = append(kept, one)
		}
	}
	return strings.Join(kept, separator)
}

func after(dropped uint64, what string) string {
	if dropped == 0 {
		return what
	}
	return fmt.Sprintf("%s (after %d that were dropped)", what, dropped)
}

// words are those of an error, without the name of the package; "" of none.
func words(err error) string {
	if err == nil {
		return ""
	}
	return strings.TrimPrefix(err.Error(), "blockjob: ")
}
