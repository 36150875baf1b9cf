package secret

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// File begins a setting that names a file with the list.
const File = "file:"

// maxFile bounds that file, in bytes.
const maxFile = 4 << 10

// Load reads WEFT_SECRET: a list, or a file with one, whose path hostPath translates to where this process sees it. The file has
// secrets one a line or comma separated. The error shows none.
func Load(setting string, hostPath func(string) string) (secrets []string, open bool, err error) {
	list := setting
	if path, is := strings.CutPrefix(setting, File); is {
		list, err = read(hostPath(path))
		if errors.Is(err, fs.ErrNotExist) && hostPath(path) != path {
			err = fmt.Errorf("%w; put the file below /var/lib or /run, where the managed plugin sees it", err)
		}
		if err != nil {
			return nil, false, fmt.Errorf("WEFT_SECRET=%s: %w", setting, err)
		}
	}
	if secrets, open, err = Parse(list); err != nil {
		return nil, false, fmt.Errorf("WEFT_SECRET: %w", err)
	}
	return secrets, open, nil
}

func read(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { _ = f.Close() }() // nothing was written
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	words := strings.FieldsFunc(string(b), func(r rune) bool { return r == '\n' || r == ',' })
	for i, w := range words {
		words[i] = strings.TrimSpace(w)
	}
	words = slices.DeleteFunc(words, func(w string) bool { return w == "" })
	switch {
	case err != nil:
		return "", err
	case len(b) > maxFile:
		return "", fmt.Errorf("larger than %d bytes; want one secret a line", maxFile)
	case len(words) == 0:
		return "", errors.New("empty; write a secret into it (openssl rand -hex 16), or none")
	}
	return strings.Join(words, ","), nil
}
