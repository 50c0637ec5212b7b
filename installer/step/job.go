package step

import (
	"fmt"
	"path"

	"howett.net/plist"
)

// Job is what a launchd job definition says about who runs what. The keys are
// those of launchd.plist(5); contracts/macos.md §3.3 says which we set.
type Job struct {
	Label            string         `plist:"Label"`
	UserName         string         `plist:"UserName"`
	GroupName        string         `plist:"GroupName"`
	Program          string         `plist:"Program"`
	ProgramArguments []string       `plist:"ProgramArguments"`
	HardLimits       map[string]int `plist:"HardResourceLimits"`
}

// CheckJob reads a job definition the way launchd will and refuses one that
// does not run program as user under label. A definition without
// UserName is loaded without a word and runs as root: that is how the
// predecessor's daemon came to (macos.md §8, D9), so what a template renders is
// judged before it is written, and not by looking at the template.
func CheckJob(data []byte, label, user, program string) error {
	var j Job
	format, err := plist.Unmarshal(data, &j)
	if err != nil {
		return fmt.Errorf("read job %s: %w", label, err)
	}
	switch {
	case format != plist.XMLFormat:
		return fmt.Errorf("job %s is %s, not XML", label, plist.FormatNames[format])
	case j.Label != label:
		return fmt.Errorf("job %s has the label %q", label, j.Label)
	case j.UserName != user:
		return fmt.Errorf("job %s runs as %q, not as %q", label, j.UserName, user)
	case j.Program != "":
		return fmt.Errorf("job %s names its program twice", label)
	case len(j.ProgramArguments) == 0 || j.ProgramArguments[0] != program:
		return fmt.Errorf("job %s does not run %s", label, program)
	case !path.IsAbs(program):
		return fmt.Errorf("job %s runs %s, which is not an absolute path", label, program)
	}
	if core, set := j.HardLimits["Core"]; user != "root" && (!set || core != 0) {
		return fmt.Errorf("job %s may leave core dumps", label)
	}
	return nil
}
