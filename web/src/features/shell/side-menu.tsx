import { DownOutlined, MenuFoldOutlined, MenuUnfoldOutlined } from "@ant-design/icons";
import { useEffect, useRef } from "react";
import { Link, NavLink, useLocation } from "react-router";
import { useText } from "@/i18n";
import { Icon } from "@/kit/icons";
import { menuOf } from "@/kit/menu";
import { useCatalogue, useSession } from "@/kit/queries";
import { useStored } from "@/kit/stored";

export function SideMenu({ sheet = false, onFollow }: { sheet?: boolean; onFollow?: () => void }) {
  const { t, plural } = useText();
  const groups = menuOf(useCatalogue(), useSession());
  const [narrowChosen, setNarrow] = useStored("menu.narrow", false);
  const [closed, setClosed] = useStored<string[]>("menu.closed", ["settings"]);
  const narrow = narrowChosen && !sheet;
  const scroller = useRef<HTMLDivElement>(null);
  const { pathname } = useLocation();
  // Whoever came by a link or the search sees where the page stands.
  useEffect(() => {
    scroller.current?.querySelector("[aria-current=page]")?.scrollIntoView({ block: "nearest" });
  }, [pathname]);

  const item = (key: string, path: string, icon: string | undefined, label: string) => (
    <li key={key}>
      <NavLink
        to={path}
        end={path === "/"}
        className="nav-item"
        title={narrow ? label : undefined}
        onClick={onFollow}
      >
        <Icon name={icon} />
        <span className={narrow ? "visually-hidden" : "nav-label cut"}>{label}</span>
      </NavLink>
    </li>
  );

  return (
    <nav
      className={`nav ${narrow ? "nav-narrow" : ""} ${sheet ? "nav-sheet" : ""}`}
      aria-label={t("menu.main")}
    >
      <Link to="/" className="nav-brand" onClick={onFollow}>
        <img src={`${import.meta.env.BASE_URL}icon.svg`} alt="" />
        <span className={narrow ? "visually-hidden" : "nav-label"}>{t("app.name")}</span>
      </Link>
      <div className="nav-scroll" ref={scroller}>
        <ul>{item("home", "/", "home", t("menu.home"))}</ul>
        {groups.map((group) => {
          const unnamed = groups.length === 1;
          const open = narrow || unnamed || !closed.includes(group.key);
          return (
            <div key={group.key}>
              {unnamed ? null : narrow ? (
                <hr className="nav-rule" />
              ) : (
                <button
                  type="button"
                  className="nav-group"
                  aria-expanded={open}
                  onClick={() =>
                    setClosed(open ? [...closed, group.key] : closed.filter((key) => key !== group.key))
                  }
                >
                  {t(`menu.${group.key}`)}
                  <DownOutlined aria-hidden="true" />
                </button>
              )}
              {open && (
                <ul>
                  {group.entries.map((entry) =>
                    item(
                      entry.key,
                      entry.path,
                      entry.icon,
                      entry.label ? plural(entry.label) : t(`page.${entry.key}`),
                    ),
                  )}
                </ul>
              )}
            </div>
          );
        })}
      </div>
      {!sheet && (
        <div className="nav-foot">
          <button
            type="button"
            className="icon-button"
            aria-label={narrow ? t("menu.widen") : t("menu.narrow")}
            onClick={() => setNarrow(!narrowChosen)}
          >
            {narrow ? <MenuUnfoldOutlined /> : <MenuFoldOutlined />}
          </button>
        </div>
      )}
    </nav>
  );
}
