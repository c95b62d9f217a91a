/** What the gateway says when a call is refused: reason, sentence, and the fields it concerns. */
export class ApiError extends Error {
  constructor(
    readonly status: number,
    readonly reason: string,
    message: string,
    readonly violations: readonly Violation[] = [],
    readonly requestId = "",
    readonly metadata: Readonly<Record<string, string>> = {},
  ) {
    super(message);
    this.name = "ApiError";
  }
}

export interface Violation {
  /** Path inside the body, such as `displayName` or `lines[2].quantity`. */
  field: string;
  description: string;
}

interface Detail {
  "@type"?: string;
  reason?: string;
  metadata?: Record<string, string>;
  fieldViolations?: { field?: string; description?: string }[];
  message?: string;
  requestId?: string;
}

/** Reads the error form of AIP-193; anything else becomes reason `UNREADABLE` with the status alone. */
export function readError(status: number, body: unknown, message: (reason: string) => string): ApiError {
  const error = (body as { error?: { message?: string; status?: string; details?: Detail[] } } | null)?.error;
  if (!error) return new ApiError(status, "UNREADABLE", message("UNREADABLE"));
  const details = error.details ?? [];
  const of = (type: string) => details.find((detail) => detail["@type"]?.endsWith(type));
  const info = of("ErrorInfo");
  const reason = info?.reason ?? error.status ?? "UNREADABLE";
  return new ApiError(
    status,
    reason,
    of("LocalizedMessage")?.message ?? error.message ?? message(reason),
    (of("BadRequest")?.fieldViolations ?? []).map((violation) => ({
      field: violation.field ?? "",
      description: violation.description ?? "",
    })),
    of("RequestInfo")?.requestId ?? "",
    info?.metadata ?? {},
  );
}
