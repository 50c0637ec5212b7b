package step

import (
	"encoding/json"
	"fmt"

	"github.com/carapace-gateway/carapace/installer/plan"
	"github.com/carapace-gateway/carapace/installer/platform"
)

// Decode returns the decoder that an engine needs to read a receipt: kind and
// data in, a step on that system out. A kind is never removed from here and
// never renamed: a receipt of any age must be readable.
func Decode(p platform.Platform) func(kind string, data json.RawMessage) (plan.Step, error) {
	return func(kind string, data json.RawMessage) (plan.Step, error) {
		var s plan.Step
		switch kind {
		case "group":
			s = &Group{}
		case "user":
			s = &User{}
		case "member":
			s = &Member{}
		case "dir":
			s = &Dir{}
		case "file":
			s = &File{}
		case "facts":
			s = &Facts{}
		case "link":
			s = &Link{}
		case "spool":
			s = &Spool{}
		case "tool":
			s = &Tool{}
		case "reload":
			s = &Reload{}
		case "service":
			s = &Service{}
		default:
			return nil, plan.WithHint(fmt.Errorf("a step of the kind %q, which this program does not know", kind),
				"use the carapace-setup that wrote the receipt")
		}
		if err := strict(data, s); err != nil {
			return nil, fmt.Errorf("a step of the kind %q: %w", kind, err)
		}
		s.(binder).bind(p)
		return s, nil
	}
}
