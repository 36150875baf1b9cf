package attack

import (
	"encoding/binary"
	"time"
)

// answerWait is how long one request keeps its stream.
const answerWait = 300 * time.Millisecond

// fields are a message in MessagePack: numbers, bytes, truths and lists of messages.
type fields map[string]any

// encode appends a value.
func encode(b []byte, value any) []byte {
	switch v := value.(type) {
	case fields:
		b = append(b, 0x80|byte(len(v)))
		for key, field := range v {
			b = encode(encode(b, []byte(key)), field)
		}
	case []fields:
		b = append(b, 0x90|byte(len(v)))
		for _, one := range v {
			b = encode(b, one)
		}
	case []byte:
		b = binary.BigEndian.AppendUint16(append(b, 0xda), uint16(len(v)))
		b = append(b, v...)
	case uint64:
		b = binary.BigEndian.AppendUint64(append(b, 0xcf), v)
	case bool:
		b = append(b, 0xc2)
		if v {
			b[len(b)-1] = 0xc3
		}
	}
	return b
}
