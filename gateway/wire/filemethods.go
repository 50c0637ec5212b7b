package wire

import (
	"encoding/base64"
	"encoding/json"
	"strings"
)

type (
	fileOpenParams struct {
		Name string `json:"name" wire:"required"`
		Size int64  `json:"size" wire:"required"`
	}
	fileOpenResult struct {
		File string `json:"file"`
	}
	fileDataParams struct {
		File string `json:"file" wire:"required"`
		Data string `json:"data" wire:"required"`
	}
	fileCloseParams struct {
		File   string `json:"file" wire:"required"`
		SHA256 string `json:"sha256" wire:"required"`
	}
)

// fileMethod returns what carries out a file.* method; nil for other methods.
func fileMethod(method string) func(*Files, json.RawMessage) (any, error) {
	switch method {
	case "file.open":
		return fileOpen
	case "file.data":
		return fileData
	case "file.close":
		return fileClose
	}
	return nil
}

func fileOpen(f *Files, params json.RawMessage) (any, error) {
	var p fileOpenParams
	if err := Decode(params, &p); err != nil {
		return nil, err
	}
	handle, err := f.Open(p.Name, p.Size)
	if err != nil {
		return nil, err
	}
	return fileOpenResult{File: handle}, nil
}

func fileData(f *Files, params json.RawMessage) (any, error) {
	var p fileDataParams
	if err := Decode(params, &p); err != nil {
		return nil, err
	}
	if len(p.Data) > base64.StdEncoding.EncodedLen(maxChunk) {
		return nil, refusal(CodeInvalidParams, "more than %d bytes at a time", maxChunk)
	}
	// The decoder skips line ends, which have no business here.
	data, err := base64.StdEncoding.Strict().DecodeString(p.Data)
	if err != nil || strings.ContainsAny(p.Data, "\r\n") {
		return nil, refusal(CodeInvalidParams, "data is not base64")
	}
	return nil, f.Data(p.File, data)
}

func fileClose(f *Files, params json.RawMessage) (any, error) {
	var p fileCloseParams
	if err := Decode(params, &p); err != nil {
		return nil, err
	}
	if _, err := f.Close(p.File, p.SHA256); err != nil {
		return nil, err
	}
	return nil, nil
}
