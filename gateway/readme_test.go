package gateway_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// TestReadmeNamesRealThings holds the README to its word: a test, a check of
// verify, a target of mage, a file that it names exists.
func TestReadmeNamesRealThings(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	var tests, probes, targets strings.Builder
	err = filepath.WalkDir("..", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() && path != ".." && (strings.HasPrefix(d.Name(), ".") || d.Name() == "dist") {
			return filepath.SkipDir
		}
		var to *strings.Builder
		switch {
		case strings.HasSuffix(path, "_test.go"):
			to = &tests
		case strings.HasSuffix(path, ".go") && strings.HasPrefix(path, filepath.Join("..", "installer", "probe")):
			to = &probes
		case strings.HasSuffix(path, ".go") && filepath.Dir(path) == filepath.Join("..", "magefiles"):
			to = &targets
		default:
			return nil
		}
		src, err := os.ReadFile(path)
		to.Write(src)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		what, in string
		names    *regexp.Regexp
		is       func(name string) string // what must stand in the source
		least    int                      // fewer than this means that the test looks for the wrong thing
	}{
		{"a test", tests.String(), regexp.MustCompile("`((?:Test|Fuzz)[A-Z]\\w+)`"), func(n string) string { return "\nfunc " + n + "(" }, 8},
		{"a check of verify", probes.String(), regexp.MustCompile("`((?:live|file|run|process|code|stranger|privilege)\\.[a-z]+)`"), func(n string) string { return `"` + n + `"` }, 8},
		{"a target of mage", strings.ToLower(targets.String()), regexp.MustCompile(`go tool mage ([a-z0-9]+)`), func(n string) string { return "\nfunc " + n + "() error" }, 4},
	} {
		found := c.names.FindAllSubmatch(readme, -1)
		if len(found) < c.least {
			t.Errorf("the README names %s %d times; at least %d were expected", c.what, len(found), c.least)
		}
		for _, m := range found {
			if name := string(m[1]); !strings.Contains(c.in, c.is(name)) {
				t.Errorf("the README names %s, which is not %s\n\tcure: name what proves the claim, or take the claim away", name, c.what)
			}
		}
	}
	for _, m := range regexp.MustCompile(`\]\(([^)#:]+)\)`).FindAllSubmatch(readme, -1) {
		if _, err := os.Stat(filepath.Join("..", string(m[1]))); err != nil {
			t.Errorf("the README links to %s: %v", m[1], err)
		}
	}
}
