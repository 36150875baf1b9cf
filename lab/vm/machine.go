package vm

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/weftnet/weft/turn"
)

// debianPackage names the package of each program that a machine and its disk need.
var debianPackage = map[string]string{
	"qemu-system-x86_64": "qemu-system-x86",
	"qemu-img":           "qemu-utils",
	"mmdebstrap":         "mmdebstrap",
	"mkfs.ext4":          "e2fsprogs",
	"busybox":            "busybox-static",
	"xz":                 "xz-utils",
}

// Missing says what keeps machines from running here; nil: nothing.
func Missing() error {
	if os.Geteuid() != 0 {
		return errors.New("vm: the disk of a machine is made by root")
	}
	var errs []error
	for program, pkg := range debianPackage {
		if _, err := exec.LookPath(program); err != nil {
			errs = append(errs, fmt.Errorf("vm: %s is not installed: apt-get install %s", program, pkg))
		}
	}
	return errors.Join(errs...)
}

// Config says what a machine is.
type Config struct {
	Disk       string       // directory that scripts/machine-disk.sh made
	Kernel     string       // the Debian release whose kernel it boots, a directory in Disk
	Dir        string       // for its own disk, sockets and console.log; of a short path
	Name       string       // its host name
	Addr       netip.Prefix // of eth0, IPv4
	Number     byte         // last byte of its MAC
	Wire       string       // socket of its network card
	Peer       string       // socket of the card at the other end, which may not exist
	Payload    string       // a file that is its second disk, /dev/vdb; empty: none
	Processors int
	Memory     int // MiB
}

// Machine is an emulated machine. Run is safe for concurrent use.
type Machine struct {
	cfg    Config
	qemu   *exec.Cmd
	ended  chan struct{}
	shells chan *shell
}

// New makes the machine's own disk. Start starts it.
func New(ctx context.Context, cfg Config) (*Machine, error) {
	m := &Machine{cfg: cfg}
	if err := os.MkdirAll(cfg.Dir, 0o755); err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	base, err := filepath.Abs(filepath.Join(cfg.Disk, "disk.img"))
	if err != nil {
		return nil, fmt.Errorf("vm: %w", err)
	}
	out, err := exec.CommandContext(ctx, "qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", base, m.file("disk.qcow2")).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("vm: disk of %s: %w: %s", cfg.Name, err, bytes.TrimSpace(out))
	}
	return m, nil
}

func (m *Machine) file(name string) string { return filepath.Join(m.cfg.Dir, name) }

// Name is the machine's host name.
func (m *Machine) Name() string { return m.cfg.Name }

// Start turns the machine on and waits until it carries out commands, which is before its services
// have started.
func (m *Machine) Start(ctx context.Context) error {
	if err := os.Remove(m.cfg.Wire); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("vm: %w", err)
	}
	console, err := os.OpenFile(m.file("console.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("vm: %w", err)
	}
	defer console.Close()
	m.qemu = exec.Command("qemu-system-x86_64", m.args()...)
	m.qemu.Stdout, m.qemu.Stderr = console, console
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // no test leaves a machine behind
	if err := m.qemu.Start(); err != nil {
		return fmt.Errorf("vm: %s: %w", m.cfg.Name, err)
	}
	ended := make(chan struct{})
	m.ended = ended
	go func() {
		_ = m.qemu.Wait() // killed, as a rule
		close(ended)
	}()
	m.shells = make(chan *shell, ports)
	for i := range ports {
		m.shells <- &shell{path: m.port(i), ended: ended}
	}
	if _, err := m.Run(ctx, "true"); err != nil {
		return fmt.Errorf("vm: %s does not start: %w\n%s", m.cfg.Name, err, m.Console())
	}
	return nil
}

func (m *Machine) port(i int) string { return m.file("shell." + strconv.Itoa(i)) }

func (m *Machine) args() []string {
	c := m.cfg
	kernel := filepath.Join(c.Disk, c.Kernel)
	args := []string{
		"-nodefaults", "-no-user-config", "-display", "none", "-serial", "stdio", "-accel", "tcg,thread=multi",
		"-smp", strconv.Itoa(c.Processors), "-m", strconv.Itoa(c.Memory),
		"-kernel", filepath.Join(kernel, "vmlinuz"), "-initrd", filepath.Join(kernel, "initrd"),
		"-append", fmt.Sprintf("console=ttyS0 root=/dev/vda rw quiet mitigations=off net.ifnames=0 systemd.show_status=0 systemd.hostname=%s ip=%s:::%s:%s:eth0:off",
			c.Name, c.Addr.Addr(), net.IP(net.CIDRMask(c.Addr.Bits(), 32)), c.Name),
		// What qemu has written survives the end of qemu: unsafe means a loss of power of the machine that runs it.
		"-drive", "file=" + m.file("disk.qcow2") + ",if=virtio,format=qcow2,cache=unsafe",
		"-device", "virtio-rng-pci", "-device", "virtio-serial-pci",
		"-netdev", "dgram,id=wire,local.type=unix,local.path=" + c.Wire + ",remote.type=unix,remote.path=" + c.Peer,
		"-device", fmt.Sprintf("virtio-net-pci,netdev=wire,romfile=,mac=52:54:00:00:00:%02x", c.Number),
	}
	if c.Payload != "" {
		args = append(args, "-drive", "file="+c.Payload+",if=virtio,format=raw,readonly=on")
	}
	for i := range ports {
		args = append(args, "-chardev", fmt.Sprintf("socket,id=shell%d,path=%s,server=on,wait=off", i, m.port(i)),
			"-device", fmt.Sprintf("virtserialport,chardev=shell%d,name=shell.%d", i, i))
	}
	return args
}

// Console is the end of what the machine and qemu have written.
func (m *Machine) Console() string {
	b, err := os.ReadFile(m.file("console.log"))
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-3000):])
}

// Cut takes the power from the machine: nothing in it is told. Start turns it on again.
func (m *Machine) Cut() {
	if m.ended == nil {
		return
	}
	_ = m.qemu.Process.Kill() // it may have ended
	<-m.ended
}

// Boot is the kernel's id of this start.
func (m *Machine) Boot(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	out, err := m.Run(ctx, "cat /proc/sys/kernel/random/boot_id")
	return strings.TrimSpace(out), err
}

// Reboot reboots the machine as its operator does, and waits until it carries out commands again.
func (m *Machine) Reboot(ctx context.Context) error {
	before, err := m.Boot(ctx)
	if err != nil {
		return fmt.Errorf("vm: reboot %s: %w", m.cfg.Name, err)
	}
	ask, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	_, _ = m.Run(ask, "systemctl --no-block reboot") // it may go down before it answers; whether it did is seen below
	for {
		now, err := m.Boot(ctx)
		if err == nil && now != before {
			return nil
		}
		if !turn.Sleep(ctx, time.Second) {
			return fmt.Errorf("vm: %s has not rebooted: %w\n%s", m.cfg.Name, errors.Join(ctx.Err(), err), m.Console())
		}
	}
}
