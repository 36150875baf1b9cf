package overlays

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// ReadFile reads a file as far as one may go that Parse takes, and one byte more.
func ReadFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }() // read-only
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() {
		return nil, errors.Join(fmt.Errorf("%s is no file", path), err)
	}
	return io.ReadAll(io.LimitReader(f, MaxFile+1))
}

// cniType is the name under which Weft's program is a CNI plugin.
const cniType = "weft-cni"

// conf is a CNI configuration. Mesos reads results of the versions up to 0.2.0 alone, and up to 1.11 wants a type in ipam.
type conf struct {
	CNIVersion string `json:"cniVersion"`
	Name       string `json:"name"`
	Type       string `json:"type"`
	IPAM       struct {
		Type string `json:"type"`
	} `json:"ipam"`
}

// writeCNI writes the configuration of a network, unless there is one of Weft's already, which is the operator's to change.
// One of another plugin stays: containers that it started need it.
func writeCNI(dir, network string) error {
	path := filepath.Join(dir, network+".conf")
	has := conf{}
	raw, err := ReadFile(path)
	if err == nil {
		if err := json.Unmarshal(raw, &has); err == nil && has.Type == cniType {
			return nil
		}
		return fmt.Errorf("%s is of another CNI plugin (%.40q), and stays: move it away when none of its containers runs, or set WEFT_CNI_DIR to another directory", path, has.Type)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	c := conf{CNIVersion: "0.2.0", Name: network, Type: cniType}
	c.IPAM.Type = cniType
	if raw, err = json.Marshal(c); err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	temporary := path + ".new"
	f, err := os.Create(temporary)
	if err != nil {
		return err
	}
	_, err = f.Write(append(raw, '\n'))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil { // else a power cut may leave an empty file under the name
		return errors.Join(err, os.Remove(temporary))
	}
	return os.Rename(temporary, path)
}
