package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/carapace-gateway/carapace/gateway/channel"
	"github.com/carapace-gateway/carapace/gateway/channel/all"
	"github.com/carapace-gateway/carapace/gateway/config"
	"github.com/carapace-gateway/carapace/gateway/guard"
	"github.com/carapace-gateway/carapace/gateway/journal"
	"github.com/carapace-gateway/carapace/gateway/wire"
)

// Options are the paths of a daemon. All are absolute and given by whoever
// starts it, so that nothing depends on the system a program was built for.
type Options struct {
	Config string // config.yaml, root's
	State  string // audit, dead letters, mailboxes: the service user's, 0700
	Run    string // the socket folder, made by root: carapace:carapace-clients 0750
	Spool  string // inbound files for clients
	Log    *slog.Logger
	Level  *slog.LevelVar // set from the configuration; may be nil

	// Seams of this package's tests, which have one uid for everybody and no
	// folder that is root's alone. Nil means the real thing.
	read    func(path string) (*config.Config, error)
	clients func(names []string) map[uint32]string
	trust   []uint32 // owners of tools besides root
}

// Daemon is the running gateway.
type Daemon struct {
	opts     Options
	log      *slog.Logger
	started  time.Time
	audit    *journal.Audit
	outbox   *journal.Outbox
	limiter  *guard.Limiter
	attempts *guard.Attempts
	lock     *lock
	stage    *wire.Stage
	channels map[string]channel.Channel
	uid      uint32
	// peersHashed says that the log shows keyed hashes in place of peers; fixed
	// for the life of a daemon.
	peersHashed bool
	maxMessage  int // of the sockets; fixed for the life of a daemon too

	// current is the accepted configuration; swapped whole by reload.
	current atomic.Pointer[accepted]

	mu      sync.Mutex // guards runners; held only to look up or swap
	runners map[string]channel.Runner
	tools   map[string]string // the tool each runner was made for

	reloading sync.Mutex
	count     counters

	settling  sync.Mutex // one settle at a time; guards settled
	settled   uint64     // what settledFile says
	recovered bool       // recover has come to its end; set before anybody is served
	unkept    atomic.Bool
}

// accepted is one configuration that is in force, with what was made of it.
type accepted struct {
	config  *config.Config
	guard   *guard.Guard
	clients map[uint32]string // uid → name
	refused string            // why a newer file is not in force; shown by status
}

type counters struct {
	sent, refused, held, dropped, unrecorded, attempts atomic.Int64
}

// Run starts the daemon and serves until ctx is done. It returns an error when
// it could not start; after that only the end of ctx ends it.
func Run(ctx context.Context, o Options) error {
	d, err := open(ctx, o)
	if err != nil {
		return err
	}
	defer d.close()
	return d.serve(ctx)
}

// open brings the daemon up to the point where it may listen: configuration,
// log, recovery, tools. The order matters: what an earlier run left unfinished
// is settled before anybody can ask for more.
func open(ctx context.Context, o Options) (_ *Daemon, err error) {
	if o.read == nil {
		o.read = config.Load
	}
	if o.clients == nil {
		o.clients = func(names []string) map[uint32]string { return clientsOf(names, uint32(os.Geteuid()), o.Log) }
	}
	d := &Daemon{opts: o, log: o.Log, started: time.Now(), uid: uint32(os.Geteuid()),
		runners: map[string]channel.Runner{}, tools: map[string]string{}}
	defer func() {
		if err != nil {
			d.close()
		}
	}()
	for _, dir := range []struct {
		name, path string
		private    bool
	}{{"state", o.State, true}, {"run", o.Run, false}} {
		if err := checkDir(dir.path, d.uid, dir.private); err != nil {
			return nil, fmt.Errorf("check the %s folder: %w", dir.name, err)
		}
	}
	if d.lock, err = openLock(filepath.Join(o.State, "lock")); err != nil {
		return nil, err
	}
	next, refusal, err := d.load()
	if err != nil {
		return nil, err
	}
	c := next.config
	d.channels = all.Channels(c.Policy.Region)

	var recovery *journal.Recovery
	d.audit, recovery, err = journal.Open(filepath.Join(o.State, "audit"), journal.Options{
		Checkpoint: c.Audit.Checkpoint, HashFields: c.Audit.HashFields, Log: d.log, Version: wire.Version,
	})
	if err != nil {
		return nil, fmt.Errorf("open the audit log: %w", err)
	}
	if err := d.openOutbox(c); err != nil {
		return nil, fmt.Errorf("open the outbox: %w", err)
	}
	// The letters that a crash swallowed name their clients; nothing is served
	// before install.
	d.current.Store(next)
	d.peersHashed = slices.Contains(c.Audit.HashFields, "peers")
	if err := d.recover(ctx, recovery); err != nil {
		return nil, fmt.Errorf("settle what the last run left: %w", err)
	}

	d.limiter = guard.NewLimiter(c.Policy)
	if d.peersHashed {
		d.limiter.NamePeers(func(peer string) string { return d.audit.Digest("peer", peer) })
	}
	if err := d.restoreRates(); err != nil {
		return nil, fmt.Errorf("rebuild the rate limits from the audit log: %w", err)
	}
	d.attempts = guard.NewAttempts(c.Policy.Attempts)
	d.install(next, refusal)

	limits := wire.DefaultLimits()
	limits.MaxMessage, limits.MaxConnections = c.Gateway.MaxMessage, c.Gateway.MaxConnections
	d.maxMessage = limits.MaxMessage
	if d.stage, err = wire.NewStage(filepath.Join(o.State, "staging"), limits); err != nil {
		return nil, fmt.Errorf("make the staging folder: %w", err)
	}
	return d, d.startRunners(ctx, c)
}

// close ends what open began, in the opposite order.
func (d *Daemon) close() {
	d.mu.Lock()
	for name, r := range d.runners {
		if err := r.Close(); err != nil {
			d.log.Warn("close a channel", "channel", name, "error", err)
		}
	}
	d.mu.Unlock()
	if d.outbox != nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		if err := d.settle(ctx); err != nil {
			d.log.Error("settle the outbox", "error", err)
		}
		cancel()
		if err := d.outbox.Close(); err != nil {
			d.log.Error("close the outbox", "error", err)
		}
	}
	if d.audit != nil {
		if err := d.audit.Close(); err != nil {
			d.log.Error("close the audit log", "error", err)
		}
	}
}

// serve listens on both sockets until ctx is done.
func (d *Daemon) serve(ctx context.Context) error {
	group, err := groupOf(d.opts.Run)
	if err != nil {
		return err
	}
	c := d.current.Load().config
	limits := wire.DefaultLimits()
	limits.MaxMessage, limits.MaxConnections = c.Gateway.MaxMessage, c.Gateway.MaxConnections

	admin, err := wire.Listen(filepath.Join(d.opts.Run, "admin.sock"), 0o600, os.Getegid())
	if err != nil {
		return fmt.Errorf("listen for the owner: %w", err)
	}
	defer admin.Close()
	gateway, err := wire.Listen(filepath.Join(d.opts.Run, "gateway.sock"), 0o660, group)
	if err != nil {
		return fmt.Errorf("listen for clients: %w", err)
	}
	defer gateway.Close()

	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	wg.Go(func() {
		defer cancel()
		s := &wire.Server{Handler: d.adminMethods(), Limits: limits, Log: d.log, Admit: d.admitAdmin}
		errs[0] = s.Serve(ctx, admin)
	})
	wg.Go(func() {
		defer cancel()
		s := &wire.Server{Handler: d.clientMethods(), Limits: limits, Log: d.log,
			Admit: d.admitClient, Allow: d.allowAttempt, Stage: d.stage}
		errs[1] = s.Serve(ctx, gateway)
	})
	wg.Go(func() { d.housekeeping(ctx) })
	head, _ := d.audit.Head()
	d.log.Info("ready", "version", wire.Version, "records", head, "clients", len(d.current.Load().clients))
	wg.Wait()
	d.log.Info("stopping")
	return errors.Join(errs...)
}

// housekeeping writes down what would be too much to record one by one, and
// lets dead letters expire.
func (d *Daemon) housekeeping(ctx context.Context) {
	second := time.NewTicker(time.Second)
	defer second.Stop()
	minute := time.NewTicker(time.Minute)
	defer minute.Stop()
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			d.noteAttempts()
			return
		case <-second.C:
			d.noteAttempts()
		case <-minute.C:
			if err := d.settle(ctx); err != nil {
				d.log.Error("settle the outbox", "error", err)
			}
		case <-hour.C:
			if n, err := d.outbox.Expire(ctx, time.Now()); err != nil {
				d.log.Error("let dead letters expire", "error", err)
			} else if n > 0 {
				d.log.Info("dead letters expired", "count", n)
			}
		}
	}
}

// noteAttempts records, once a second and for each uid, how many calls were
// turned away before anything was recorded of them.
func (d *Daemon) noteAttempts() {
	for uid, n := range d.attempts.Dropped() {
		e := journal.Event{Kind: journal.KindDropped, ClientUID: &uid, Count: n, Verdict: "deny", Rule: "rate:attempts", Reason: "too many attempts"}
		if err := d.audit.Note(e); err != nil {
			d.log.Error("record dropped attempts", "error", err)
		}
	}
}

func (d *Daemon) timeout() time.Duration { return d.current.Load().config.Gateway.RequestTimeout }

// runner returns the runner of a channel; one that is not running is a runner
// that starts nothing.
func (d *Daemon) runner(name string) channel.Runner {
	d.mu.Lock()
	defer d.mu.Unlock()
	if r, ok := d.runners[name]; ok {
		return r
	}
	return disabled{}
}

// disabled stands where a channel is not enabled.
type disabled struct{}

func (disabled) Run(context.Context, channel.Command) (channel.Reply, error) {
	return channel.Reply{}, fmt.Errorf("%w: the channel is not enabled", channel.ErrNotStarted)
}
func (disabled) Status() channel.Status { return channel.Status{State: channel.StateDisabled} }
func (disabled) Close() error           { return nil }

// clientName names a uid for a person.
func (d *Daemon) clientName(uid uint32) string {
	if now := d.current.Load(); now != nil {
		if name, ok := now.clients[uid]; ok {
			return name
		}
	}
	return strconv.FormatUint(uint64(uid), 10)
}

// clientsOf resolves the names of the configuration. A name that the system
// does not know is left out and said: it must not keep the others from being
// served. So are root, and the service user: its tools are told things by
// strangers, and must not be able to write messages of their own.
func clientsOf(names []string, service uint32, log *slog.Logger) map[uint32]string {
	clients := make(map[uint32]string, len(names))
	for _, name := range names {
		u, err := user.Lookup(name)
		if err != nil {
			log.Warn("a client of the configuration does not exist", "client", name)
			continue
		}
		uid, err := strconv.ParseUint(u.Uid, 10, 32)
		if err != nil || uid == 0 || uint32(uid) == service {
			log.Warn("a client of the configuration cannot be served", "client", name)
			continue
		}
		clients[uint32(uid)] = name
	}
	return clients
}

// checkDir refuses a folder that somebody else could change under us.
func checkDir(path string, uid uint32, private bool) error {
	if !filepath.IsAbs(path) {
		return fmt.Errorf("%s is not an absolute path", path)
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return fmt.Errorf("%s is not a folder", path)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	forbidden := os.FileMode(0o022)
	if private {
		forbidden = 0o077
	}
	if owner != uid {
		return fmt.Errorf("%s belongs to uid %d, not to the service user (uid %d)", path, owner, uid)
	}
	if mode := info.Mode().Perm(); mode&forbidden != 0 {
		return fmt.Errorf("%s has mode %04o; %04o must be off", path, mode, forbidden)
	}
	return nil
}

// groupOf returns the group of the socket folder: root made that folder for
// the clients, so its group is who may connect.
func groupOf(dir string) (int, error) {
	info, err := os.Lstat(dir)
	if err != nil {
		return 0, fmt.Errorf("find the clients' group: %w", err)
	}
	return int(info.Sys().(*syscall.Stat_t).Gid), nil
}
