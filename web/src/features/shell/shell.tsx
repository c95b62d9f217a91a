import { useQuery, useQueryClient } from "@tanstack/react-query";
import { lazy, Suspense, useEffect, useRef, useState } from "react";
import { Navigate, Outlet, useLocation, useNavigate } from "react-router";
import { ApiError } from "@/api/errors";
import { isOutside, may, sessionQuery } from "@/api/session";
import { followStream } from "@/api/stream";
import { useText } from "@/i18n";
import { receive, send, type Command } from "@/kit/commands";
import { useShortcuts } from "@/kit/keyboard";
import { isOfPortal, isOwnCompany } from "@/portal";
import { Page } from "@/kit/page";
import { catalogueQuery, useCatalogue, useSession } from "@/kit/queries";
import { ErrorBoundary, ErrorNote, Skeleton } from "@/kit/states";
import { BottomBar } from "./bottom-bar";
import { SideMenu } from "./side-menu";
import { SignInPage } from "./sign-in";
import { TopBar } from "./top-bar";

const loadPalette = async () => ({ default: (await import("./palette")).Palette });
const Palette = lazy(loadPalette);
const QuickCreate = lazy(async () => ({ default: (await import("./quick-create")).QuickCreate }));
const Shortcuts = lazy(async () => ({ default: (await import("./shortcuts")).Shortcuts }));
const IncomingCall = lazy(async () => ({ default: (await import("./incoming-call")).IncomingCall }));
const SessionEnded = lazy(async () => ({ default: (await import("./session-ended")).SessionEnded }));

/** Everything around a page: who is signed in, the menu, the top bar, and what any page may open. */
export function Shell() {
  const session = useQuery(sessionQuery);
  const catalogue = useQuery({ ...catalogueQuery, enabled: Boolean(session.data) });
  if (session.isError) return <ErrorNote error={session.error} onRetry={() => void session.refetch()} />;
  if (session.isPending) return null;
  if (!session.data) return <SignInPage />;
  if (catalogue.isError)
    return <ErrorNote error={catalogue.error} onRetry={() => void catalogue.refetch()} />;
  if (catalogue.isPending) return null;
  return <SignedIn />;
}

function SignedIn() {
  const { t } = useText();
  const client = useQueryClient();
  const navigate = useNavigate();
  const location = useLocation();
  const main = useRef<HTMLElement>(null);
  const [command, setCommand] = useState<Command>();
  const [menuOpen, setMenuOpen] = useState(false);
  const [connected, setConnected] = useState(true);
  const session = useSession();
  const catalogue = useCatalogue();
  const answer = catalogue.find("calls")?.verbs.find(({ name }) => name === "answer");
  const ended = useQuery({
    queryKey: ["session-ended"],
    queryFn: () => false,
    enabled: false,
    initialData: false,
  }).data;

  useEffect(() => followStream(client, setConnected), [client]);
  useEffect(() => receive(setCommand), []);
  // Loaded before it is asked for, so that no typed letter is lost after Ctrl+K.
  useEffect(() => {
    const timer = setTimeout(() => void loadPalette(), 1_000);
    return () => clearTimeout(timer);
  }, []);
  useEffect(() => {
    void main.current?.scrollTo(0, 0);
  }, [location.pathname]);
  useEffect(() => {
    const press = (event: KeyboardEvent) => {
      if (event.key.toLowerCase() !== "k" || !(event.ctrlKey || event.metaKey)) return;
      event.preventDefault();
      send({ kind: "search" });
    };
    addEventListener("keydown", press);
    return () => removeEventListener("keydown", press);
  }, []);
  useShortcuts({
    "/": () => send({ kind: "search" }),
    "?": () => send({ kind: "shortcuts" }),
    "g h": () => void navigate("/"),
    "g c": () => void navigate("/accounts"),
    "g o": () => void navigate("/opportunities"),
    "g t": () => void navigate("/tickets"),
    "g l": () => void navigate("/calendar"),
    "g k": () => void navigate("/tasks"),
    "g a": () => void navigate("/approvals"),
  });

  const close = () => setCommand(undefined);
  const here =
    !isOutside(session) ||
    isOfPortal(location.pathname, (collection) => may(session, catalogue.find(collection)?.permissions.read));
  return (
    <div className="shell">
      <a href="#main" className="skip">
        {t("menu.skip")}
      </a>
      <SideMenu />
      <TopBar />
      <main id="main" className="main" ref={main} tabIndex={-1}>
        {!connected && (
          <div className="banner" role="status">
            {t("state.disconnected")}
          </div>
        )}
        <ErrorBoundary resetKey={location.pathname}>
          <Suspense fallback={<Skeleton lines={8} />}>
            {isOwnCompany(location.pathname, session.account) ? (
              <Navigate to="/profile" replace />
            ) : here ? (
              <Outlet />
            ) : (
              <Page title={t("state.missing")}>
                <ErrorNote error={new ApiError(404, "NOT_FOUND", "")} />
              </Page>
            )}
          </Suspense>
        </ErrorBoundary>
      </main>
      <BottomBar onMenu={() => setMenuOpen(true)} />
      {menuOpen && (
        <div className="menu-sheet">
          <SideMenu sheet onFollow={() => setMenuOpen(false)} />
          <button
            type="button"
            className="menu-sheet-close"
            aria-label={t("action.close")}
            onClick={() => setMenuOpen(false)}
          />
        </div>
      )}
      <Suspense fallback={null}>
        {command?.kind === "search" && <Palette onClose={close} />}
        {command?.kind === "create" && <QuickCreate command={command} onClose={close} />}
        {command?.kind === "shortcuts" && <Shortcuts onClose={close} />}
        {answer && may(session, answer.permission) && <IncomingCall />}
        {ended && <SessionEnded />}
      </Suspense>
    </div>
  );
}
