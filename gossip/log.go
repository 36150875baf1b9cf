package gossip

import (
	"bytes"
	"log/slog"

	"github.com/weftnet/weft/loglimit"
)

// memberlistLog is an io.Writer for memberlist's own log. Errors become warnings, whose
// number is limited; the rest is logged for debugging.
type memberlistLog struct{ limited *loglimit.Limiter }

// Write implements io.Writer.
func (l memberlistLog) Write(line []byte) (int, error) {
	text := string(bytes.TrimSpace(line))
	if bytes.Contains(line, []byte("[ERR]")) {
		l.limited.Warn("memberlist", "memberlist complains", "err", text)
	} else {
		l.limited.Log(slog.LevelDebug, "memberlist says", "memberlist", "says", text)
	}
	return len(line), nil
}
