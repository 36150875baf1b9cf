package gossip

import (
	"bytes"
	"log/slog"

	"github.com/weftnet/weft/loglimit"
)

// memberlistLog is an io.Writer for memberlist's own log: errors are worth a
// warning now and then, the rest is for debugging.
type memberlistLog struct{ noise *loglimit.Limiter }

// Write implements io.Writer.
func (l memberlistLog) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	if bytes.Contains(line, []byte("[ERR]")) {
		l.noise.Warn("memberlist", "memberlist complains", "err", text)
	} else {
		l.noise.Log(slog.LevelDebug, "memberlist says", "memberlist", "says", text)
	}
	return len(line), nil
}
