// SPDX-License-Identifier: MIT
// What jobs, monitors and records look like in structured logs.

//go:build go1.21

package blockjob

import (
	"encoding/json"
	"log/slog"
	"time"
)

// LogValue returns the outcome as "PIVOTED".
func (o Outcome) LogValue() slog.Value {
	return slog.StringValue(o.String())
}

// LogValue returns what String does.
func (k EventKind) LogValue() slog.Value {
	return slog.StringValue(k.String())
}

// LogValue returns what String does.
func (k UpdateKind) LogValue() slog.Value {
	return slog.StringValue(k.String())
}

// LogValue returns what String does.
func (k JobChangeKind) LogValue() slog.Value {
	return slog.StringValue(k.String())
}

// LogValue returns what is known of the job without asking QEMU: id, type, ready, outcome, error.
func (j *Job) LogValue() slog.Value {
	return group(
		slog.String("id", j.ID()),
		slog.String("type", j.Type()),
		slog.Bool("ready", j.IsReady()),
		slog.Any("outcome", j.Outcome()),
		slog.String("error", words(j.Err())),
	)
}

// LogValue returns the monitor's name, if it has one of its own, and uri, the version of its QEMU, and why it is over if it
// is: error.
func (m *Monitor) LogValue() slog.Value {
	name := m.Name()
	if name == m.URI() {
		name = ""
	}
	return group(
		slog.String("name", name),
		slog.String("uri", m.URI()),
		slog.String("qemu", m.QEMUVersion()),
		slog.String("error", words(m.Err())),
	)
}

// LogValue returns what String does.
func (g *Group) LogValue() slog.Value {
	return slog.StringValue(g.String())
}

// LogValue returns what QEMU reported: id, type, status, error, io_status, current, total, speed, ready, paused.
func (i JobInfo) LogValue() slog.Value {
	return group(
		slog.String("id", i.ID),
		slog.String("type", i.Type),
		slog.String("status", i.Status),
		slog.String("error", i.Error),
		slog.String("io_status", i.IOStatus),
		slog.Int64("current", i.Current),
		slog.Int64("total", i.Total),
		slog.Int64("speed", i.Speed),
		slog.Bool("ready", i.Ready),
		slog.Bool("paused", i.Paused),
	)
}

// LogValue returns current and total.
func (p Progress) LogValue() slog.Value {
	return group(slog.Int64("current", p.Current), slog.Int64("total", p.Total))
}

// LogValue returns what has happened: start_sent, ready_event, ...
func (t Timeline) LogValue() slog.Value {
	var all []slog.Attr
	for _, moment := range t.moments() {
		all = append(all, slog.Time(moment.name, moment.time))
	}
	return group(all...)
}

// LogValue returns kind, name, data, error, the time by QEMU's clock (event_time), and dropped.
func (e Event) LogValue() slog.Value {
	return group(
		slog.Any("kind", e.Kind),
		slog.String("name", e.Name),
		slog.Any("data", e.Data),
		slog.String("error", words(e.Err)),
		slog.Time("event_time", e.Time),
		slog.Uint64("dropped", e.Dropped),
	)
}

// LogValue returns kind, what goes with it (status, current and total, outcome, text), event_time and dropped.
func (u Update) LogValue() slog.Value {
	all := []slog.Attr{
		slog.Any("kind", u.Kind),
		slog.String("status", u.Status),
		slog.String("text", u.Text),
		slog.Time("event_time", u.Time),
		slog.Uint64("dropped", u.Dropped),
	}
	switch u.Kind {
	case UpdateProgress:
		all = append(all, slog.Int64("current", u.Progress.Current), slog.Int64("total", u.Progress.Total))
	case UpdateEnded:
		all = append(all, slog.Any("outcome", u.Outcome))
	}
	return group(all...)
}

// LogValue returns kind, the job's id (job) and type, what goes with the kind (started, resumed, current and total, outcome,
// inferred, reason), event_time, dropped and dropped_ends.
func (c JobChange) LogValue() slog.Value {
	all := []slog.Attr{
		slog.Any("kind", c.Kind),
		slog.String("job", c.Job.ID()),
		slog.String("type", c.Type),
		slog.String("reason", c.Reason),
		slog.Time("event_time", c.Time),
		slog.Uint64("dropped", c.Dropped),
		slog.Uint64("dropped_ends", c.DroppedEnds),
	}
	switch c.Kind {
	case JobAppeared:
		all = append(all, slog.Bool("started", c.Started))
		if c.Resumed {
			all = append(all, slog.Bool("resumed", true))
		}
	case JobProgress:
		all = append(all, slog.Int64("current", c.Current), slog.Int64("total", c.Total))
	case JobEnded:
		all = append(all, slog.Any("outcome", c.Outcome))
	}
	if c.Inferred {
		all = append(all, slog.Bool("inferred", true))
	}
	return group(all...)
}

// LogValue returns the monitor's name, whether the line was sent, its text, the time, and how many were lost before.
func (l TraceLine) LogValue() slog.Value {
	return group(
		slog.String("name", l.Name),
		slog.Bool("sent", l.Sent),
		slog.String("text", l.Text),
		slog.Time("line_time", l.Time),
		slog.Uint64("lost", l.Lost),
	)
}

// group leaves out what is not known.
func group(all ...slog.Attr) slog.Value {
	known := all[:0]
	for _, attribute := range all {
		if !isUnknown(attribute.Value.Any()) {
			known = append(known, attribute)
		}
	}
	return slog.GroupValue(known...)
}

func isUnknown(value any) bool {
	switch v := value.(type) {
	case string:
		return v == ""
	case json.RawMessage:
		return v == nil
	case time.Time:
		return v.IsZero()
	case uint64:
		return v == 0
	case int64:
		return v < 0
	}
	return false
}
