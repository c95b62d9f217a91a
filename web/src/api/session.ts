import { queryOptions } from "@tanstack/react-query";
import type { Text } from "./catalogue";
import { context, request } from "./client";
import { ApiError } from "./errors";
import { wipes } from "./wipe";

export interface Session {
  employee: string;
  /** The account of a customer or partner; empty for people of the company. */
  account: string;
  /** The contact of the account that a customer or partner is. */
  contact: string;
  displayName: string;
  roles: string[];
  /** What every role is called, by its code. */
  roleNames: Record<string, Text>;
  permissions: string[];
  /** How far the person sees beyond what is theirs: OWN, DEPARTMENT, BELOW or ALL. */
  scope: string;
  locale: string;
  csrf: string;
  /** The name of this session among those of the person. */
  session: string;
}

/** Null where nobody is signed in. */
export const sessionQuery = queryOptions({
  queryKey: ["session"],
  queryFn: async (): Promise<Session | null> => {
    try {
      const response = await request("/session");
      const body = (await response.json()) as Partial<Session> & { signedIn?: boolean };
      if (body.signedIn === false) return null;
      context.csrf = body.csrf ?? "";
      return {
        employee: body.employee ?? "",
        account: body.account ?? "",
        contact: body.contact ?? "",
        displayName: body.displayName ?? "",
        roles: body.roles ?? [],
        roleNames: body.roleNames ?? {},
        permissions: body.permissions ?? [],
        scope: body.scope ?? "OWN",
        locale: body.locale ?? "",
        csrf: body.csrf ?? "",
        session: body.session ?? "",
      };
    } catch (error) {
      if (error instanceof ApiError && error.status === 401) {
        if (wipes(error.reason)) context.onSignedOut(error);
        return null;
      }
      throw error;
    }
  },
  staleTime: 60_000,
  refetchInterval: 60_000,
  retry: false,
});

/** True where the session holds the permission. The server decides again; this only hides what it would refuse. */
export function may(session: Session, permission: string | undefined): boolean {
  if (permission === undefined) return false;
  return (
    permission === "" ||
    permission === "*" ||
    session.permissions.some((own) => own === "*" || own === permission)
  );
}

/** True for people of customers and partners, who use the portal. */
export const isOutside = (session: Session): boolean => session.account !== "";

/** True for people who answer for others' work too. */
export const leads = (session: Session): boolean => session.scope !== "OWN";

export const signInUrl = (path: string) => `/session/sign-in?return_to=${encodeURIComponent(path)}`;

/** Every window of this browser hears of a sign-in or sign-out. */
export const sessionNews = new BroadcastChannel("guanxi.session");

export async function signOut(): Promise<void> {
  await request("/session/sign-out", { method: "POST" });
  sessionNews.postMessage("signed-out");
}
