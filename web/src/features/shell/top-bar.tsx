import {
  BellOutlined,
  CheckSquareOutlined,
  MoonOutlined,
  PlusOutlined,
  QuestionCircleOutlined,
  SearchOutlined,
  SunOutlined,
} from "@ant-design/icons";
import { useQuery } from "@tanstack/react-query";
import { Link, useNavigate } from "react-router";
import { signOut } from "@/api/session";
import { useText } from "@/i18n";
import { send } from "@/kit/commands";
import { MenuButton } from "@/kit/menu-button";
import { creatableOf } from "@/kit/menu";
import { firstPageQuery, useCatalogue, useReads, useSession } from "@/kit/queries";
import { setTheme, useTheme } from "@/kit/theme";
import { Jobs } from "./jobs";
import { LanguageSwitch } from "@/kit/language-switch";

const MANY = 50;

export function TopBar() {
  const { t, label } = useText();
  const catalogue = useCatalogue();
  const session = useSession();
  const { theme } = useTheme();
  const navigate = useNavigate();
  const decides = useReads("approvals");
  const isTold = useReads("notifications");

  const switchTheme = () => setTheme(theme === "dark" ? "light" : "dark");

  const creatable = creatableOf(catalogue, session);

  return (
    <header className="top">
      <Link to="/" className="top-brand">
        <img src={`${import.meta.env.BASE_URL}icon.svg`} alt="" />
        {t("app.name")}
      </Link>
      <button type="button" className="top-search" onClick={() => send({ kind: "search" })}>
        <SearchOutlined aria-hidden="true" />
        {t("search.hint")}
        <kbd>Ctrl K</kbd>
      </button>
      <span className="grow" />
      {creatable.length > 0 && (
        <MenuButton
          className="button button-primary wide"
          items={creatable.map((resource) => ({
            key: resource.collection,
            label: label(resource.label),
            run: () => send({ kind: "create", collection: resource.collection }),
          }))}
        >
          <PlusOutlined aria-hidden="true" />
          {t("action.new")}
        </MenuButton>
      )}
      <Jobs />
      {decides && (
        <Link to="/approvals" className="icon-button wide" aria-label={t("page.approvals")}>
          <CheckSquareOutlined />
        </Link>
      )}
      {isTold && <Bell />}
      <button
        type="button"
        className="icon-button wide"
        aria-label={theme === "dark" ? t("menu.light") : t("menu.dark")}
        onClick={switchTheme}
      >
        {theme === "dark" ? <SunOutlined /> : <MoonOutlined />}
      </button>
      <button
        type="button"
        className="icon-button wide"
        aria-label={t("shortcuts.title")}
        onClick={() => send({ kind: "shortcuts" })}
      >
        <QuestionCircleOutlined />
      </button>
      <LanguageSwitch />
      <MenuButton
        className="me"
        items={[
          { key: "theme", label: theme === "dark" ? t("menu.light") : t("menu.dark"), run: switchTheme },
          ...(catalogue.find("sessions")
            ? [{ key: "sessions", label: t("sessions.mine"), run: () => void navigate("/my-sessions") }]
            : []),
          {
            key: "out",
            label: t("session.signOut"),
            apart: true,
            run: () => void signOut().then(() => location.assign(import.meta.env.BASE_URL)),
          },
        ]}
      >
        <span className="avatar" aria-hidden="true">
          {session.displayName.slice(0, 1)}
        </span>
        <span className="visually-hidden">{t("menu.me", { name: session.displayName })}</span>
        <span className="me-name" aria-hidden="true">
          {session.displayName}
        </span>
      </MenuButton>
    </header>
  );
}

function Bell() {
  const { t } = useText();
  const unread = useQuery(firstPageQuery("notifications", { filter: "NOT readTime:*", pageSize: MANY }));
  const count = unread.data?.records.length ?? 0;
  return (
    <Link to="/notifications" className="icon-button badge" aria-label={t("notifications.unread", { count })}>
      <BellOutlined />
      {count > 0 && (
        <span className="badge-count" aria-hidden="true">
          {count < MANY ? count : `${MANY}+`}
        </span>
      )}
    </Link>
  );
}
