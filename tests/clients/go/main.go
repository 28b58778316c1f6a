// Calls toolcrib from Go over generated stubs: picks a tool for a task, runs it, reads refusals by their
// reason, repeats a request safely and reads the audit trail. Ends at the first step that fails.
//
//	python3 -m venv .venv && .venv/bin/pip install -r ../python/requirements.txt   # brings protoc
//	PYTHON=.venv/bin/python ./generate gen
//	export TOOLCRIB_ADDRESS=127.0.0.1:7700 TOOLCRIB_API_KEY_FILE=.../dev.key   # in the data folder of toolcrib up
//	go run .
//
// The key must be an administrator's, since one step makes a guest. The program must never print a key.
package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	auditv1 "example.com/toolcrib-client/gen/auditv1"
	executorv1 "example.com/toolcrib-client/gen/executorv1"
	permissionsv1 "example.com/toolcrib-client/gen/permissionsv1"
	selectorv1 "example.com/toolcrib-client/gen/selectorv1"
	"google.golang.org/grpc/codes"
)

const (
	task         = "run a python program that sums numbers"
	program      = `{"code": "print(sum(range(10)))"}`
	tourTimeout  = 2 * time.Minute
	trailTimeout = 10 * time.Second
)

// expectRefusal turns the error of a call that has to be refused into its refusal.
func expectRefusal(err error, code codes.Code, reason string) (refusal, error) {
	if err == nil {
		return refusal{}, fmt.Errorf("expected %s %s, got an answer", code, reason)
	}
	refused := readRefusal(err)
	if refused.code != code || refused.reason != reason {
		return refused, fmt.Errorf("expected %s %s, got %s", code, reason, refused)
	}
	return refused, nil
}

func done(step, format string, values ...any) {
	fmt.Printf("ok  %s: %s\n", step, fmt.Sprintf(format, values...))
}

func identify(ctx context.Context, crib *toolcrib) error {
	me, err := crib.permissions.WhoAmI(ctx, &permissionsv1.WhoAmIRequest{})
	if err != nil {
		return err
	}
	if me.GetTeamId() == "" || me.GetAgentId() == "" {
		return errors.New("the key belongs to nobody")
	}
	if me.GetRole() != permissionsv1.Role_ROLE_ADMIN {
		return fmt.Errorf("needs an administrator's key, this one is of %s", me.GetRole())
	}
	done("identify", "%s of team %s, %s", me.GetAgentId(), me.GetTeamId(), me.GetRole())
	return nil
}

// selectTool asks for the best tool for the task. The ranking learns from calls that name the selection.
func selectTool(ctx context.Context, crib *toolcrib, taskID string) (tool, selectionID string, err error) {
	selection, err := crib.selector.SelectTools(ctx, &selectorv1.SelectToolsRequest{
		Task:                 task,
		RequiredCapabilities: []string{"execute"},
		TaskId:               taskID,
	})
	if err != nil {
		return "", "", err
	}
	best := selection.GetPrimary()
	if best.GetName() != "python_sandbox" {
		return "", "", fmt.Errorf("expected python_sandbox, got %q", best.GetName())
	}
	done("select", "%s out of %d, score %.2f: %s",
		best.GetName(), selection.GetCandidateCount(), best.GetCombinedScore(), best.GetReason())
	return best.GetName(), selection.GetSelectionId(), nil
}

// execute runs a tool. That the tool failed is an answer with a status; only toolcrib's own refusals are errors.
func execute(ctx context.Context, crib *toolcrib, request *executorv1.ExecuteRequest) (*executorv1.Execution, error) {
	answer, err := crib.executor.Execute(ctx, request)
	if err != nil {
		return nil, err
	}
	execution := answer.GetExecution()
	if execution.GetStatus() != executorv1.ExecutionStatus_EXECUTION_STATUS_SUCCEEDED {
		return nil, fmt.Errorf("%s: %s", execution.GetStatus(), execution.GetError().GetMessage())
	}
	var result struct {
		Stdout string `json:"stdout"`
	}
	if err := json.Unmarshal([]byte(execution.GetResultJson()), &result); err != nil {
		return nil, fmt.Errorf("the result is not the expected JSON: %w", err)
	}
	if result.Stdout != "45\n" {
		return nil, fmt.Errorf("expected the program to print 45, got %q", result.Stdout)
	}
	done("execute", "%s printed %q in %.0f ms", execution.GetToolName(), result.Stdout, execution.GetDurationMs())
	return execution, nil
}

// repeat sends the same request again, as after a lost answer: the request id keeps it from running twice.
func repeat(ctx context.Context, crib *toolcrib, request *executorv1.ExecuteRequest, first *executorv1.Execution) error {
	answer, err := crib.executor.Execute(ctx, request)
	if err != nil {
		return err
	}
	if !answer.GetReplayed() {
		return errors.New("the repeated request was run again")
	}
	if again := answer.GetExecution().GetId(); again != first.GetId() {
		return fmt.Errorf("expected execution %s, got %s", first.GetId(), again)
	}
	done("repeat", "execution %s again, not run twice", first.GetId())
	return nil
}

func breakSchema(ctx context.Context, crib *toolcrib, tool string) error {
	_, err := crib.executor.Execute(ctx, executeRequest(tool, `{"code": 7}`))
	refused, err := expectRefusal(err, codes.InvalidArgument, "INVALID_ARGUMENTS")
	if err != nil {
		return err
	}
	violations := strings.Join(refused.violations, "; ")
	if !strings.Contains(violations, "code: ") {
		return fmt.Errorf("no violation names the field code: %s", refused)
	}
	done("broken arguments", "%s", violations)
	return nil
}

func callUnknownTool(ctx context.Context, crib *toolcrib) error {
	_, err := crib.executor.Execute(ctx, executeRequest("no_such_tool", "{}"))
	refused, err := expectRefusal(err, codes.NotFound, "TOOL_NOT_FOUND")
	if err != nil {
		return err
	}
	done("unknown tool", "%s", refused.message)
	return nil
}

func useWrongKey(ctx context.Context, address string) error {
	stranger, err := connect(address, "tc_dev_no_such_key")
	if err != nil {
		return err
	}
	defer stranger.close()
	_, err = stranger.permissions.WhoAmI(ctx, &permissionsv1.WhoAmIRequest{})
	refused, err := expectRefusal(err, codes.Unauthenticated, "UNAUTHENTICATED")
	if err != nil {
		return err
	}
	done("wrong key", "%s", refused.message)
	return nil
}

// callWithoutGrant makes a guest, calls a tool with the guest's key and revokes the key.
func callWithoutGrant(ctx context.Context, crib *toolcrib, address, tool string) error {
	guest := &permissionsv1.Agent{Id: "guest", Specialization: "Guest", Role: permissionsv1.Role_ROLE_AGENT}
	if _, err := crib.permissions.CreateAgent(ctx, &permissionsv1.CreateAgentRequest{Agent: guest}); err != nil {
		return err
	}
	key, err := crib.permissions.IssueApiKey(ctx, &permissionsv1.IssueApiKeyRequest{AgentId: guest.GetId(), TtlS: 300})
	if err != nil {
		return err
	}
	visitor, err := connect(address, key.GetApiKey())
	if err != nil {
		return err
	}
	defer visitor.close()
	_, err = visitor.executor.Execute(ctx, executeRequest(tool, program))
	refused, err := expectRefusal(err, codes.PermissionDenied, "NO_GRANT")
	if err != nil {
		return err
	}
	if _, err := crib.permissions.RevokeApiKey(ctx, &permissionsv1.RevokeApiKeyRequest{KeyId: key.GetKeyId()}); err != nil {
		return err
	}
	done("no grant", "%s", refused.message)
	return nil
}

func readTrail(ctx context.Context, crib *toolcrib, execution *executorv1.Execution) error {
	events, err := awaitEvents(ctx, crib, execution.GetTaskId())
	if err != nil {
		return err
	}
	if len(events) != 1 {
		return fmt.Errorf("expected one event of the task, got %d", len(events))
	}
	event := events[0]
	if event.GetExecutionId() != execution.GetId() || event.GetToolName() != execution.GetToolName() {
		return fmt.Errorf("expected %s in execution %s, got %s in %s",
			execution.GetToolName(), execution.GetId(), event.GetToolName(), event.GetExecutionId())
	}
	if event.GetResult() != auditv1.Result_RESULT_SUCCESS {
		return fmt.Errorf("expected RESULT_SUCCESS, got %s %s", event.GetResult(), event.GetReason())
	}
	done("trail", "event %d: %s ran %s, %s", event.GetSequence(), event.GetAgentId(), event.GetToolName(), event.GetResult())
	return nil
}

// awaitEvents polls, since events reach the trail shortly after the answer.
func awaitEvents(ctx context.Context, crib *toolcrib, taskID string) ([]*auditv1.Event, error) {
	deadline := time.After(trailTimeout)
	poll := time.NewTicker(100 * time.Millisecond)
	defer poll.Stop()
	for {
		trail, err := crib.audit.QueryTrail(ctx, &auditv1.QueryTrailRequest{TaskId: taskID})
		if err != nil {
			return nil, err
		}
		if events := trail.GetEvents(); len(events) > 0 {
			return events, nil
		}
		select {
		case <-poll.C:
		case <-deadline:
			return nil, fmt.Errorf("no event of task %s within %s", taskID, trailTimeout)
		}
	}
}

func executeRequest(tool, argumentsJSON string) *executorv1.ExecuteRequest {
	return &executorv1.ExecuteRequest{
		Tool:  tool,
		Input: &executorv1.ExecuteRequest_ArgumentsJson{ArgumentsJson: argumentsJSON},
	}
}

// tour goes through every step and returns the name of the one that failed, and how.
func tour(ctx context.Context, address, key string) (string, error) {
	crib, err := connect(address, key)
	if err != nil {
		return "connect", err
	}
	defer crib.close()
	if err := identify(ctx, crib); err != nil {
		return "identify", err
	}
	taskID := "go-client-" + rand.Text()
	tool, selectionID, err := selectTool(ctx, crib, taskID)
	if err != nil {
		return "select", err
	}
	request := executeRequest(tool, program)
	request.RequestId = rand.Text() // makes it safe to send the request again
	request.TaskId, request.SelectionId = taskID, selectionID
	execution, err := execute(ctx, crib, request)
	if err != nil {
		return "execute", err
	}
	if err := repeat(ctx, crib, request, execution); err != nil {
		return "repeat", err
	}
	if err := breakSchema(ctx, crib, tool); err != nil {
		return "broken arguments", err
	}
	if err := callUnknownTool(ctx, crib); err != nil {
		return "unknown tool", err
	}
	if err := useWrongKey(ctx, address); err != nil {
		return "wrong key", err
	}
	if err := callWithoutGrant(ctx, crib, address, tool); err != nil {
		return "no grant", err
	}
	if err := readTrail(ctx, crib, execution); err != nil {
		return "trail", err
	}
	return "", nil
}

func main() {
	key, err := os.ReadFile(os.Getenv("TOOLCRIB_API_KEY_FILE"))
	if err != nil {
		fmt.Fprintln(os.Stderr, "FAIL key:", err)
		os.Exit(1)
	}
	// The deadline travels with every call, and toolcrib stops working for a caller that no longer waits.
	ctx, cancel := context.WithTimeout(context.Background(), tourTimeout)
	defer cancel()
	step, err := tour(ctx, os.Getenv("TOOLCRIB_ADDRESS"), strings.TrimSpace(string(key)))
	if err != nil {
		fmt.Fprintf(os.Stderr, "FAIL %s: %s\n", step, explain(err))
		os.Exit(1)
	}
}
