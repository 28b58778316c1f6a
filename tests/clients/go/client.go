// The connection, the API key and the reading of refusals: the part to copy. Must never print a key.

package main

import (
	"context"
	"fmt"
	"strings"

	auditv1 "example.com/toolcrib-client/gen/auditv1"
	executorv1 "example.com/toolcrib-client/gen/executorv1"
	permissionsv1 "example.com/toolcrib-client/gen/permissionsv1"
	selectorv1 "example.com/toolcrib-client/gen/selectorv1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/local"
	"google.golang.org/grpc/status"
)

// toolcrib is the services of one toolcrib, all behind one address, called with one API key.
type toolcrib struct {
	connection  *grpc.ClientConn
	selector    selectorv1.SelectorServiceClient
	executor    executorv1.ExecutorServiceClient
	permissions permissionsv1.PermissionsServiceClient
	audit       auditv1.AuditServiceClient
}

func connect(address, key string) (*toolcrib, error) {
	connection, err := grpc.NewClient(address,
		// Unencrypted, and for that reason to this machine only. Elsewhere: credentials.NewTLS(nil).
		grpc.WithTransportCredentials(local.NewCredentials()),
		grpc.WithPerRPCCredentials(apiKey(key)),
	)
	if err != nil {
		return nil, err
	}
	return &toolcrib{
		connection:  connection,
		selector:    selectorv1.NewSelectorServiceClient(connection),
		executor:    executorv1.NewExecutorServiceClient(connection),
		permissions: permissionsv1.NewPermissionsServiceClient(connection),
		audit:       auditv1.NewAuditServiceClient(connection),
	}, nil
}

func (t *toolcrib) close() { _ = t.connection.Close() }

// apiKey sends an API key with every call.
type apiKey string

func (k apiKey) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(k)}, nil
}

// RequireTransportSecurity is true for a program that reaches toolcrib over TLS.
func (k apiKey) RequireTransportSecurity() bool { return false }

// refusal is why a call was refused. Programs branch on code and reason; the message is for people.
type refusal struct {
	code       codes.Code
	reason     string
	violations []string
	message    string
}

func (r refusal) String() string {
	return strings.TrimSpace(fmt.Sprintf("%s %s: %s %s", r.code, r.reason, r.message, strings.Join(r.violations, "; ")))
}

// readRefusal reads the google.rpc.Status that a refused call carries in its trailers.
func readRefusal(err error) refusal {
	refused := status.Convert(err)
	read := refusal{code: refused.Code(), message: refused.Message()}
	for _, detail := range refused.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			read.reason = detail.GetReason()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				read.violations = append(read.violations, violation.GetField()+": "+violation.GetDescription())
			}
		}
	}
	return read
}

// explain tells a refusal with its reason, and any other error as it is.
func explain(err error) string {
	if _, refused := status.FromError(err); refused {
		return readRefusal(err).String()
	}
	return err.Error()
}
