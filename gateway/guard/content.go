package guard

import (
	"regexp"
	"slices"
	"strings"

	"github.com/carapace-gateway/carapace/gateway/policy"
)

// notPermitted is all that a client hears of a content rule: which one it was
// would tell it how to write the same thing differently.
const notPermitted = "content not permitted"

// span is a finding: bytes start to end of a text.
type span struct {
	start, end int
	id         string
}

// content gives the opinions of the content rules that find something, in the
// order of the configuration, and the body without what they found. A text is
// looked at as it is and as a reader sees it (policy.Fold): what is found only
// in the second form cannot be cut out of the first, so that the whole text
// counts as found. What a rule only warns of stays in the body.
func (g *Guard) content(opinions []policy.Verdict, op *policy.Operation) ([]policy.Verdict, []policy.Text) {
	if len(op.Body) == 0 && len(op.Files) == 0 {
		return opinions, nil
	}
	direction := policy.Outbound
	if !op.Verb.Effect() {
		direction = policy.Inbound
	}
	var found map[int][]span // by index of the text
	folded := make([]string, len(op.Body))
	for i, text := range op.Body {
		folded[i] = text.Fold()
	}
	for i := range g.policy.Patterns {
		p := &g.policy.Patterns[i]
		if p.Direction != direction {
			continue
		}
		if p.Regexp == nil {
			opinions = append(opinions, policy.Verdict{Stage: policy.StageContent, Rule: or(p.Where, "content:"+p.ID), Reason: notPermitted})
			continue
		}
		hit := false
		for n, text := range op.Body {
			spans := find(p, string(text), folded[n])
			if len(spans) == 0 {
				continue
			}
			hit = true
			if p.Action >= policy.Warn {
				continue
			}
			if found == nil {
				found = map[int][]span{}
			}
			found[n] = append(found[n], spans...)
		}
		action := p.Action
		if inNames(p.Regexp, op.Files) {
			hit = true
			if action == policy.Redact {
				// The name of a file cannot be replaced by something else.
				action = policy.Deny
			}
		}
		if hit {
			opinions = append(opinions, policy.Verdict{
				Action: action, Stage: policy.StageContent,
				Rule: or(p.Where, "content:"+p.ID), Reason: notPermitted,
			})
		}
	}
	if found == nil {
		return opinions, nil
	}
	body := slices.Clone(op.Body)
	for n, spans := range found {
		body[n] = g.cut(body[n], spans, direction)
	}
	return opinions, body
}

// find returns what a rule finds in a text. One that is found only in the
// folded form, or that has no length, is the whole text.
func find(p *policy.ContentPattern, raw, folded string) []span {
	var spans []span
	for _, m := range p.Regexp.FindAllStringIndex(raw, -1) {
		if m[0] == m[1] {
			return []span{{0, len(raw), p.ID}}
		}
		spans = append(spans, span{m[0], m[1], p.ID})
	}
	if len(spans) == 0 && folded != raw && p.Regexp.MatchString(folded) {
		return []span{{0, len(raw), p.ID}}
	}
	return spans
}

func inNames(re *regexp.Regexp, files []policy.File) bool {
	return slices.ContainsFunc(files, func(f policy.File) bool {
		return re.MatchString(f.Name) || re.MatchString(policy.Fold(f.Name))
	})
}

// cut replaces every span of a text by [redacted:ID]. Spans that overlap become
// one, named after the rule that found its beginning: what was found must be
// gone, whichever rule found which half. If a reader would still find
// something in the rest, nothing of the text is left.
func (g *Guard) cut(text policy.Text, spans []span, d policy.Direction) policy.Text {
	slices.SortStableFunc(spans, func(a, b span) int { return a.start - b.start })
	var shown, rest strings.Builder
	end := 0
	for i, s := range spans {
		if i > 0 && s.start < end {
			end = max(end, s.end)
			continue
		}
		shown.WriteString(string(text[end:s.start]) + "[redacted:" + s.id + "]")
		rest.WriteString(string(text[end:s.start]) + " ")
		end = s.end
	}
	shown.WriteString(string(text[end:]))
	rest.WriteString(string(text[end:]))
	folded := policy.Fold(rest.String())
	for i := range g.policy.Patterns {
		p := &g.policy.Patterns[i]
		if p.Direction == d && p.Action < policy.Warn && p.Regexp != nil && p.Regexp.MatchString(folded) {
			return policy.Text("[redacted:" + p.ID + "]")
		}
	}
	return policy.Text(shown.String())
}
