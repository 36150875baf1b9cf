package cli

import (
	"context"
	"io"
	"log/slog"

	"github.com/sirupsen/logrus"

	"github.com/weftnet/weft/settings"
)

// logTime is the format of times in the log, in milliseconds.
const logTime = "2006-01-02T15:04:05.000Z07:00"

// newLog returns the agent's log. logrus writes every line, with the host's name in it,
// also those of the standard library, such as net/http.
func newLog(out io.Writer, s settings.Settings) *slog.Logger {
	l := logrus.New()
	l.Out = out
	l.Formatter = &logrus.TextFormatter{DisableColors: true, FullTimestamp: true, TimestampFormat: logTime}
	if s.LogFormat == "json" {
		l.Formatter = &logrus.JSONFormatter{DisableHTMLEscape: true, TimestampFormat: logTime}
	}
	if level, err := logrus.ParseLevel(s.LogLevel); err == nil { // else there are no settings yet: info
		l.Level = level
	}
	log := slog.New(handler{entry: l.WithField("agent", s.Name)})
	slog.SetDefault(log)
	return log
}

// handler passes the records of log/slog, which the packages write, to logrus. All
// methods are safe for concurrent use.
type handler struct {
	entry  *logrus.Entry
	prefix string // of the groups that are open
}

// Enabled implements slog.Handler.
func (h handler) Enabled(_ context.Context, l slog.Level) bool {
	return h.entry.Logger.IsLevelEnabled(levelOf(l))
}

// Handle implements slog.Handler.
func (h handler) Handle(_ context.Context, r slog.Record) error {
	fields := logrus.Fields{}
	r.Attrs(func(a slog.Attr) bool {
		h.add(fields, h.prefix, a)
		return true
	})
	h.entry.WithTime(r.Time).WithFields(fields).Log(levelOf(r.Level), r.Message)
	return nil
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	fields := logrus.Fields{}
	for _, a := range attrs {
		h.add(fields, h.prefix, a)
	}
	return handler{entry: h.entry.WithFields(fields), prefix: h.prefix}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	return handler{entry: h.entry, prefix: h.prefix + name + "."}
}

// add writes an attribute into fields. The attributes of a group are prefixed with its
// name.
func (h handler) add(fields logrus.Fields, prefix string, a slog.Attr) {
	v := a.Value.Resolve()
	switch {
	case v.Kind() != slog.KindGroup && a.Key != "":
		fields[prefix+a.Key] = v.Any()
	case v.Kind() == slog.KindGroup:
		if a.Key != "" {
			prefix += a.Key + "."
		}
		for _, member := range v.Group() {
			h.add(fields, prefix, member)
		}
	}
}

func levelOf(l slog.Level) logrus.Level {
	switch {
	case l < slog.LevelInfo:
		return logrus.DebugLevel
	case l < slog.LevelWarn:
		return logrus.InfoLevel
	case l < slog.LevelError:
		return logrus.WarnLevel
	}
	return logrus.ErrorLevel
}
