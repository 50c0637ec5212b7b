package gateway_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// module is the path of the one Go module.
const module = "github.com/carapace-gateway/carapace"

// layer says which packages of ours a package may import. Paths are relative
// to the module; "x/..." means x and everything below it.
type layer struct {
	uses []string // in code that is linked into programs
	// tests is what the package's _test.go files may import besides uses and
	// the package itself. A test may reach down and sideways for a real part in
	// place of a mock; it may not reach across trees without being named here.
	tests []string
}

// channelParts is what every channel's own package stands on.
var channelParts = []string{"gateway/channel", "gateway/policy"}

// channelTests is what the tests of a channel may use besides.
var channelTests = []string{"gateway/channel/channeltest"}

// layers is the house: every package that may exist and what it may import. A
// package listed here need not exist yet. The picture is in
// docs/architecture.md.
var layers = map[string]layer{
	// What root runs, once.
	"installer/cmd/carapace-setup": {
		uses:  []string{"installer/...", "gateway/wire", "templates"},
		tests: []string{"gateway/..."},
	},
	"installer": {
		uses: []string{"installer/step", "installer/plan", "installer/platform", "installer/prompt",
			"installer/probe", "installer/openclaw", "templates", "gateway/config"},
	},
	"installer/plan":             {},
	"installer/step":             {uses: []string{"installer/platform", "installer/plan", "templates"}},
	"installer/platform":         {},
	"installer/platform/fakemac": {uses: []string{"installer/platform"}},
	"installer/prompt":           {},
	"installer/probe":            {uses: []string{"installer/platform", "gateway/wire"}},
	"installer/openclaw":         {},

	// What the service user runs.
	"gateway":               {},
	"gateway/wire":          {},
	"gateway/policy":        {},
	"gateway/config":        {uses: []string{"gateway/policy"}},
	"gateway/guard":         {uses: []string{"gateway/policy"}, tests: []string{"gateway/config"}},
	"gateway/journal":       {uses: []string{"gateway/policy"}},
	"gateway/channel":       {uses: []string{"gateway/policy"}},
	"gateway/channel/all":   {uses: append([]string{"gateway/channel/..."}, channelParts...)},
	"gateway/channel/gmail": {uses: channelParts, tests: channelTests},
	"gateway/channel/imsg": {uses: channelParts,
		tests: []string{"gateway/channel/channeltest", "gateway/channel/imsg/imsgtest", "gateway/adapter"}},
	"gateway/channel/loopback": {uses: channelParts, tests: channelTests},
	"gateway/channel/signal":   {uses: channelParts, tests: channelTests},
	"gateway/channel/discord":  {uses: channelParts, tests: channelTests},
	"gateway/adapter":          {uses: channelParts},
	"gateway/facade":           {uses: channelParts},
	"gateway/daemon": {
		uses: []string{"gateway/channel/...", "gateway/guard", "gateway/adapter", "gateway/journal",
			"gateway/facade", "gateway/config", "gateway/policy", "gateway/wire"},
		tests: []string{"gateway/..."},
	},
	"gateway/cmd/carapaced": {
		// config for --check, which must work without a daemon; ctl/offline
		// because this executable links what that needs anyway
		uses:  []string{"gateway/daemon", "gateway/config", "gateway/wire", "gateway/ctl/offline"},
		tests: []string{"gateway/..."},
	},
	// carapacectl is started for every ping: it links the wire and nothing
	// that makes tables when it starts.
	"gateway/ctl":             {uses: []string{"gateway/wire"}},
	"gateway/cmd/carapacectl": {uses: []string{"gateway/ctl", "gateway/wire"}, tests: []string{"gateway/..."}},
	"gateway/ctl/offline": {uses: []string{"gateway/ctl", "gateway/wire", "gateway/config", "gateway/policy", "gateway/guard",
		"gateway/channel", "gateway/channel/all", "gateway/journal"}},
	"gateway/cmd/carapace-imsg-helper": {uses: []string{"gateway/wire"}},

	// Parts of tests that are packages because several tests share them. No
	// program may link them: TestTestSupport.
	"gateway/channel/channeltest":   {uses: channelParts},
	"gateway/channel/imsg/imsgtest": {uses: channelParts},
	"gateway/channel/imsg/fakeimsg": {uses: []string{"gateway/channel/imsg/imsgtest"}},

	// What the agent runs.
	"shims":                    {uses: []string{"gateway/wire"}},
	"shims/relay":              {uses: []string{"gateway/wire", "shims"}},
	"shims/cmd/carapace-shim":  {uses: []string{"gateway/wire", "shims"}, tests: []string{"gateway/..."}},
	"shims/cmd/carapace-relay": {uses: []string{"gateway/wire", "shims", "shims/relay"}},

	// What builds and measures.
	"templates":       {},
	"magefiles":       {},
	"magefiles/bench": {uses: []string{"gateway/wire"}},
}

// testSupport are the packages that only tests, and the stand-in programs
// they run, may import.
var testSupport = []string{
	"gateway/channel/channeltest",
	"gateway/channel/imsg/imsgtest",
	"gateway/channel/imsg/fakeimsg",
	"installer/platform/fakemac",
}

// never is what §2 of the plan forbids whatever the table says; it guards
// the table against a careless new line.
var never = []struct{ from, to, why string }{
	{"gateway/...", "installer/...", "the daemon runs beside the credentials and links nothing that administers the system"},
	{"gateway/...", "shims/...", "nothing that the agent's side decides may be believed"},
	{"shims/...", "installer/...", "a shim is a messenger: it classifies nothing and administers nothing"},
	{"installer/plan", "installer/platform", "the engine knows no operating system"},
	{"gateway/wire", "gateway/...", "the shims link wire: whatever it imports starts with every call"},
	{"gateway/policy", "gateway/...", "policy is pure data that all others share"},
}

// pkg is what `go list` says of one package.
type pkg struct {
	ImportPath   string
	Dir          string
	Name         string
	Imports      []string
	TestImports  []string
	XTestImports []string
	Error        *struct{ Err string }
	Module       *struct{ Path string }

	rel string // ImportPath relative to the module
}

// platforms are the systems a build of Carapace is for.
var platforms = []string{"linux", "darwin"}

// TestLayers holds every package to its line in the table.
func TestLayers(t *testing.T) {
	for _, goos := range platforms {
		for _, p := range listed(t, goos) {
			l, ok := layers[p.rel]
			if !ok {
				t.Errorf("package %s is not in the layer table\n\tcure: give it a line in gateway/layers_test.go and a place in docs/architecture.md, or put the code into a package that has one", p.rel)
				continue
			}
			for _, to := range ours(p.Imports) {
				if !matches(to, l.uses) {
					t.Errorf("%s: %s imports %s; it may import %s\n\tcure: move the code to the package that joins the two, or pass what it needs as a value; see docs/architecture.md", goos, p.rel, to, list(l.uses))
				}
			}
			allowed := slices.Concat(l.uses, l.tests, []string{p.rel})
			for _, to := range ours(slices.Concat(p.TestImports, p.XTestImports)) {
				if !matches(to, allowed) {
					t.Errorf("%s: a test of %s imports %s; it may import %s\n\tcure: test it where both are linked anyway, or add the import to \"tests\" of the package's line", goos, p.rel, to, list(allowed))
				}
			}
			for _, n := range never {
				if !matches(p.rel, []string{n.from}) {
					continue
				}
				for _, to := range ours(p.Imports) {
					if to != p.rel && matches(to, []string{n.to}) {
						t.Errorf("%s: %s imports %s, which may never be: %s", goos, p.rel, to, n.why)
					}
				}
			}
			for _, to := range ours(slices.Concat(p.Imports, p.TestImports, p.XTestImports)) {
				if strings.Contains(to, "/cmd/") && to != p.rel {
					t.Errorf("%s: %s imports %s: a program is run, never imported", goos, p.rel, to)
				}
			}
		}
	}
}

// TestTestSupport shows that no program links a part that is there for tests.
func TestTestSupport(t *testing.T) {
	for _, goos := range platforms {
		for _, p := range listed(t, goos) {
			if slices.Contains(testSupport, p.rel) {
				continue
			}
			for _, to := range ours(p.Imports) {
				if slices.Contains(testSupport, to) {
					t.Errorf("%s: %s imports %s, which is for tests\n\tcure: import it from a _test.go file", goos, p.rel, to)
				}
			}
			for _, to := range p.Imports {
				if to == "testing" || strings.HasPrefix(to, "testing/") {
					t.Errorf("%s: %s imports %s outside of its tests\n\tcure: move that to a _test.go file, or name the package in testSupport", goos, p.rel, to)
				}
			}
		}
	}
}

// outside says who may import a library that is not ours, or a part of the
// standard library that is a power of its own. Keys are import path prefixes;
// the longest one counts. A library that is not here may not be imported.
var outside = map[string]struct {
	by  []string
	why string
}{
	"github.com/AlecAivazis/survey/v2":  {[]string{"installer/prompt"}, "it is archived upstream: one importer can be replaced in a day"},
	"gopkg.in/yaml.v3":                  {[]string{"gateway/config"}, "it is unmaintained and lenient by default: one importer makes it strict"},
	"howett.net/plist":                  {[]string{"installer/step"}, "one writer of property lists"},
	"golang.org/x/mod/sumdb":            {[]string{"gateway/journal"}, "one writer of the tamper-evident log"},
	"modernc.org/sqlite":                {[]string{"gateway/journal"}, "one owner of the database"},
	"github.com/nyaruka/phonenumbers":   {[]string{"gateway/policy"}, "one canonical form of a phone number"},
	"golang.org/x/net/idna":             {[]string{"gateway/policy"}, "one canonical form of an address"},
	"golang.org/x/text":                 {[]string{"gateway/policy"}, "one canonical form of text"},
	"github.com/cenkalti/backoff/v4":    {[]string{"gateway/adapter"}, "one supervisor: its default gives up after 15 minutes, which must be undone in one place"},
	"github.com/coder/websocket":        {[]string{"gateway/facade"}, "one endpoint that speaks it"},
	"charm.land/bubbletea/v2":           {[]string{"gateway/cmd/carapacectl"}, "one terminal interface"},
	"golang.org/x/sys":                  {systemCallers, "system calls stay in the packages that are about the system"},
	"golang.org/x/term":                 {[]string{"installer/prompt", "installer/cmd/carapace-setup", "gateway/cmd/carapacectl"}, "only what talks to a person asks for a terminal"},
	"github.com/magefile/mage":          {[]string{"magefiles"}, "the build tool builds"},
	"os/exec":                           {childMakers, "who starts processes must clean their environment, descriptors and limits; that is reviewed in few places"},
	"net/http":                          {[]string{"gateway/facade"}, "Carapace speaks over Unix sockets; only the façade is HTTP"},
	"crypto/tls":                        {[]string{"gateway/facade"}, "as net/http"},
	"plugin":                            {nil, "no code is loaded at run time"},
	"C":                                 {nil, "programs are built without cgo, so that they are the same everywhere"},
	"log":                               {nil, "log/slog is used, whose attributes redact themselves"},
	"unsafe":                            {unsafeUsers, "only where a system call leaves no other way"},
	"testing":                           {testSupport, "see TestTestSupport"},
	"github.com/rogpeppe/go-internal":   {testSupport, "for tests"},
	"github.com/google/go-cmp":          {testSupport, "for tests"},
	"pgregory.net/rapid":                {testSupport, "for tests"},
	"github.com/creack/pty":             {nil, "for tests"},
	"golang.org/x/time":                 {nil, "for tests: our rate limiter is checked against it"},
	"golang.org/x/net":                  {nil, "only its idna is used"},
	"golang.org/x/mod":                  {nil, "only its sumdb is used"},
	"github.com/kballard/go-shellquote": {nil, "indirect"},
	"google.golang.org/protobuf":        {nil, "indirect"},
}

var (
	systemCallers = []string{"gateway/wire", "gateway/adapter", "gateway/journal", "gateway/daemon",
		"gateway/cmd/carapaced", "installer/platform", "installer/probe", "installer/step", "installer/plan",
		"installer/prompt", "installer/cmd/carapace-setup", "shims", "shims/cmd/carapace-shim", "magefiles/bench"}
	childMakers = []string{"gateway/adapter", "installer/platform", "installer/probe", "installer/openclaw",
		"gateway/cmd/carapace-imsg-helper", "magefiles", "magefiles/bench",
		"gateway/channel/imsg/imsgtest"} // builds the stand-in tool for tests
	unsafeUsers = []string{"gateway/adapter", "gateway/wire", "installer/probe"}
)

// guardedStd reports whether a part of the standard library needs a line in
// outside; the rest is free. log is guarded without what is below it, because
// log/slog is what is used in its place.
func guardedStd(path string) bool {
	key, ok := longestPrefix(path)
	return ok && (key == path || key != "log")
}

// TestOutside holds every package to the libraries it may use. Test files may
// use every library of go.mod; go.mod is reviewed by a person.
func TestOutside(t *testing.T) {
	for _, goos := range platforms {
		for _, p := range listed(t, goos) {
			for _, to := range p.Imports {
				if isOurs(to) || isStd(to) && !guardedStd(to) {
					continue
				}
				key, ok := longestPrefix(to)
				if !ok {
					t.Errorf("%s: %s imports %s, which is in no table\n\tcure: do without; a new library needs a decision in docs/decisions and a line in gateway/layers_test.go", goos, p.rel, to)
					continue
				}
				if rule := outside[key]; !matches(p.rel, rule.by) {
					t.Errorf("%s: %s imports %s; only %s may: %s\n\tcure: use what that package offers", goos, p.rel, to, list(rule.by), rule.why)
				}
			}
		}
	}
}

// TestShimLinksLittle looks at everything that is linked into the shim: it is
// started for every message, in the agent's account, so it must start in the
// time of an empty program and hold nothing worth having.
func TestShimLinksLittle(t *testing.T) {
	const shim = "shims/cmd/carapace-shim"
	for _, goos := range platforms {
		if !slices.ContainsFunc(listed(t, goos), func(p pkg) bool { return p.rel == shim }) {
			t.Skipf("%s does not exist yet", shim)
		}
		for _, dep := range golist(t, goos, "-deps", "-json=ImportPath,Module", "./"+shim) {
			switch path := dep.ImportPath; {
			case path == "net" || path == "log/slog" || path == "regexp" || strings.HasPrefix(path, "net/") || strings.HasPrefix(path, "crypto/"):
				t.Errorf("%s: the shim links %s, which alone costs a tenth of its start (net/http: half)\n\tcure: go list -deps -f '{{.ImportPath}} {{.Imports}}' ./%s shows who imports it", goos, path, shim)
			case isOurs(path):
				if rel := relative(path); !matches(rel, []string{"gateway/wire", "shims", "shims/cmd/carapace-shim"}) {
					t.Errorf("%s: the shim links %s; of ours it may link only gateway/wire and shims: what is decided is decided behind the socket", goos, rel)
				}
			case dep.Module != nil && dep.Module.Path != "golang.org/x/sys":
				t.Errorf("%s: the shim links %s of %s; from outside it may link only golang.org/x/sys", goos, path, dep.Module.Path)
			}
		}
	}
}

// processStarters are the ways past os/exec.
var processStarters = map[string][]string{
	"os":                          {"StartProcess"},
	"syscall":                     {"StartProcess", "ForkExec", "Exec"},
	"golang.org/x/sys/unix":       {"Exec"},
	"golang.org/x/sys/execabs":    {"Command", "CommandContext"},
	"github.com/magefile/mage/sh": {"Run"},
}

// TestNoOtherWayToStart shows that who may not import os/exec does not start
// processes by other means. The shim may replace itself: as "openclaw" it
// becomes the real program, in the account that called it. So may carapacectl:
// by its other half.
func TestNoOtherWayToStart(t *testing.T) {
	may := append([]string{"shims", "shims/cmd/carapace-shim", "gateway/cmd/carapacectl"}, childMakers...)
	for _, p := range listed(t, "linux") {
		if matches(p.rel, may) {
			continue
		}
		eachFile(t, p, func(name string, file *ast.File) {
			imported := make(map[string][]string)
			for _, spec := range file.Imports {
				path := strings.Trim(spec.Path.Value, `"`)
				if names, ok := processStarters[path]; ok {
					local := path[strings.LastIndex(path, "/")+1:]
					if spec.Name != nil {
						local = spec.Name.Name
					}
					imported[local] = names
				}
			}
			ast.Inspect(file, func(n ast.Node) bool {
				sel, ok := n.(*ast.SelectorExpr)
				if !ok {
					return true
				}
				if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(imported[x.Name], sel.Sel.Name) {
					t.Errorf("%s/%s calls %s.%s; only %s may start a process\n\tcure: use what the adapter or the platform offers", p.rel, name, x.Name, sel.Sel.Name, list(may))
				}
				return true
			})
		})
	}
}

// minDoc is the least number of characters of a package comment that counts as
// an explanation. It is a floor against "Package x implements x", not an aim.
const minDoc = 100

// TestPackageDoc holds every package to one package comment that explains it,
// and to the house rule against hidden code: no init function.
func TestPackageDoc(t *testing.T) {
	seen := make(map[string]bool)
	for _, goos := range platforms {
		for _, p := range listed(t, goos) {
			if seen[p.rel] {
				continue
			}
			seen[p.rel] = true
			var docs []string
			eachFile(t, p, func(name string, file *ast.File) {
				if text := file.Doc.Text(); text != "" {
					docs = append(docs, name)
					if len(text) < minDoc {
						t.Errorf("%s/%s: the package comment has %d characters, of at least %d\n\tcure: say what the package is, what it promises and what it refuses", p.rel, name, len(text), minDoc)
					}
				}
				for _, decl := range file.Decls {
					if f, ok := decl.(*ast.FuncDecl); ok && f.Recv == nil && f.Name.Name == "init" {
						t.Errorf("%s/%s has an init function: what runs before main cannot be read from main\n\tcure: call it", p.rel, name)
					}
				}
			})
			switch len(docs) {
			case 1:
			case 0:
				t.Errorf("%s has no package comment\n\tcure: say what the package is, what it promises and what it refuses", p.rel)
			default:
				t.Errorf("%s has %d package comments, in %s\n\tcure: keep one", p.rel, len(docs), list(docs))
			}
		}
	}
}

// eachFile parses the files of a package, those for other systems included,
// without its tests.
func eachFile(t *testing.T, p pkg, visit func(name string, file *ast.File)) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.Dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range files {
		if strings.HasSuffix(path, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ParseComments)
		if err != nil {
			t.Errorf("%s: %v", p.rel, err)
			continue
		}
		visit(filepath.Base(path), file)
	}
}

// TestTable keeps the tables themselves honest: what they name is in the
// layer table.
func TestTable(t *testing.T) {
	check := func(where string, names []string) {
		for _, name := range names {
			name = strings.TrimSuffix(name, "/...")
			if _, ok := layers[name]; !ok && !slices.ContainsFunc(keys(), func(k string) bool { return strings.HasPrefix(k, name+"/") }) {
				t.Errorf("%s names %s, which is not in the layer table", where, name)
			}
		}
	}
	for name, l := range layers {
		check(name, l.uses)
		check(name, l.tests)
	}
	for name, rule := range outside {
		check(name, rule.by)
	}
	check("testSupport", testSupport)
}

// listing is the list of our packages for one system, made once.
var listing sync.Map // goos → func() ([]pkg, error)

// listed returns our packages as they are for goos, the build targets
// included.
func listed(t *testing.T, goos string) []pkg {
	t.Helper()
	once, _ := listing.LoadOrStore(goos, sync.OnceValues(func() ([]pkg, error) {
		return runList(goos, "-e", "-tags=mage", "-json=ImportPath,Dir,Name,Imports,TestImports,XTestImports,Error,Module", "./...")
	}))
	pkgs, err := once.(func() ([]pkg, error))()
	if err != nil {
		t.Fatal(err)
	}
	if len(pkgs) < 5 {
		t.Fatalf("go list found %d packages for %s: the test looks in the wrong place", len(pkgs), goos)
	}
	return pkgs
}

// golist runs go list for goos and fails the test when it fails.
func golist(t *testing.T, goos string, args ...string) []pkg {
	t.Helper()
	pkgs, err := runList(goos, args...)
	if err != nil {
		t.Fatal(err)
	}
	return pkgs
}

// openFolders opens every folder of the module. What go list reads is not seen by
// the test cache; what the test itself opens is. Without this a package that
// came later would be judged by the cached verdict of before.
var openFolders = sync.OnceValue(func() error {
	return filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "dist") {
			return filepath.SkipDir
		}
		return err
	})
})

// runList runs go list in the root of the module.
func runList(goos string, args ...string) ([]pkg, error) {
	if err := openFolders(); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", append([]string{"list"}, args...)...)
	cmd.Dir = ".." // tests run in the folder of their package
	cmd.Env = append(os.Environ(), "GOOS="+goos, "CGO_ENABLED=0")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list for %s: %w\n%s", goos, err, stderr.String())
	}
	var pkgs []pkg
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return pkgs, nil
		} else if err != nil {
			return nil, fmt.Errorf("go list for %s: %w", goos, err)
		}
		p.rel = relative(p.ImportPath)
		pkgs = append(pkgs, p)
	}
}

func isOurs(path string) bool { return path == module || strings.HasPrefix(path, module+"/") }

func relative(path string) string { return strings.TrimPrefix(strings.TrimPrefix(path, module), "/") }

// isStd reports whether an import path is of the standard library: its first
// element has no dot.
func isStd(path string) bool {
	first, _, _ := strings.Cut(path, "/")
	return !strings.Contains(first, ".")
}

// ours returns the packages of ours among paths, relative, sorted, once each.
func ours(paths []string) []string {
	var rels []string
	for _, p := range paths {
		if isOurs(p) {
			rels = append(rels, relative(p))
		}
	}
	slices.Sort(rels)
	return slices.Compact(rels)
}

// matches reports whether rel is named by one of the patterns.
func matches(rel string, patterns []string) bool {
	for _, p := range patterns {
		if below, ok := strings.CutSuffix(p, "/..."); ok {
			if rel == below || strings.HasPrefix(rel, below+"/") {
				return true
			}
		} else if rel == p {
			return true
		}
	}
	return false
}

// longestPrefix finds the key of outside that rules an import path.
func longestPrefix(path string) (string, bool) {
	best := ""
	for key := range outside {
		if (path == key || strings.HasPrefix(path, key+"/")) && len(key) > len(best) {
			best = key
		}
	}
	return best, best != ""
}

func keys() []string {
	var ks []string
	for k := range layers {
		ks = append(ks, k)
	}
	return ks
}

func list(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
